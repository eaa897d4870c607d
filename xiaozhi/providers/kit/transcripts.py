"""Removal of tags, annotations and language names from a recogniser's text."""

from __future__ import annotations

import re
import unicodedata

from xiaozhi.base.values import Transcript

# <|zh|> of SenseVoice, <|0.00|> of Whisper; some tokenizers insert blanks.
_TAG = re.compile(r"[<＜]\s*[|｜]\s*([^|｜<>＜＞]{0,40}?)\s*[|｜]\s*[>＞]")
_ELEMENT = re.compile(
    r"</?(?:s|sil|unk|pad|eps|blk|blank|noise|nsn|spn|spk|nospeech|silence|music|laugh|laughter"
    r"|breath|cough|spoken_noise|background_noise|unintelligible|foreign)\s*/?>",
    re.IGNORECASE,
)
_BRACKETS = re.compile(
    r"\[([^\[\]]{1,60})\]|\(([^()]{1,60})\)|（([^（）]{1,60})）|【([^【】]{1,60})】"
    r"|［([^［］]{1,60})］|<([^<>|]{1,60})>|\*{1,2}([^*]{1,60})\*{1,2}|_([A-Za-z ]{1,40})_"
)
_SONG = re.compile(r"[♪♫♬♩🎵🎶][^♪♫♬♩🎵🎶]*(?:[♪♫♬♩🎵🎶]|$)")
# An annotation consists mostly of these words.
_NOISES = frozenset(
    """music musik musique música musica blank audio silence silent inaudible applause
    applauding laughter laughs laughing chuckles chuckling giggles noise noises sigh sighs
    sighing cough coughs coughing sneezes breathing breath breathes crying cries sobbing
    cheering cheers static beep beeping beeps click clicks clicking throat wind typing
    footsteps foreign unintelligible indistinct crosstalk humming singing whistling barking
    bell ringing unk unknown nospeech bgm event screaming screams gasps groans snoring yawns
    bang stille silencio rires applaudissements""".split()  # noqa: SIM905
)
_NOISES_CJK = re.compile(
    r"音[乐樂楽]|掌[声聲]|笑|噪[音声聲]|[静靜]音|[无無][声聲音]|沉默|咳|[叹嘆]|哭|听不清|聽不清"
    r"|空白|[无無][语語]音|鼓掌|拍手|[铃鈴]声|呼吸|[杂雜]音|歌声|음악|박수|웃음|침묵|소음"
)
_EMOTIONS = {
    "HAPPY": "happy",
    "SAD": "sad",
    "ANGRY": "angry",
    "NEUTRAL": "neutral",
    "FEARFUL": "shocked",
    "DISGUSTED": "confused",
    "SURPRISED": "surprised",
    "LAUGHTER": "laughing",
    "CRY": "crying",
}
# SenseVoice's own post-processing writes emotions and events as emoji.
_FACES = {"😊": "happy", "😔": "sad", "😡": "angry", "😰": "shocked", "😮": "surprised"}
_LANGUAGES = {
    "chinese": "zh",
    "mandarin": "zh",
    "cantonese": "yue",
    "english": "en",
    "japanese": "ja",
    "korean": "ko",
    "french": "fr",
    "german": "de",
    "spanish": "es",
    "castilian": "es",
    "italian": "it",
    "portuguese": "pt",
    "russian": "ru",
    "arabic": "ar",
    "hindi": "hi",
    "vietnamese": "vi",
    "thai": "th",
    "indonesian": "id",
    "malay": "ms",
    "turkish": "tr",
    "dutch": "nl",
    "polish": "pl",
    "ukrainian": "uk",
    "swedish": "sv",
    "danish": "da",
    "norwegian": "no",
    "finnish": "fi",
    "czech": "cs",
    "greek": "el",
    "hebrew": "he",
    "hungarian": "hu",
    "romanian": "ro",
    "tagalog": "tl",
    "filipino": "tl",
    "中文": "zh",
    "汉语": "zh",
    "普通话": "zh",
    "国语": "zh",
    "粤语": "yue",
    "广东话": "yue",
    "英语": "en",
    "英文": "en",
    "日语": "ja",
    "日本語": "ja",
    "韩语": "ko",
    "한국어": "ko",
}
# ISO 639-3, as some vendors name languages.
_THREE = {
    "cmn": "zh",
    "zho": "zh",
    "chi": "zh",
    "eng": "en",
    "jpn": "ja",
    "kor": "ko",
    "fra": "fr",
    "fre": "fr",
    "deu": "de",
    "ger": "de",
    "spa": "es",
    "ita": "it",
    "por": "pt",
    "rus": "ru",
    "ara": "ar",
    "hin": "hi",
    "vie": "vi",
    "tha": "th",
    "ind": "id",
    "msa": "ms",
    "tur": "tr",
    "nld": "nl",
    "pol": "pl",
    "ukr": "uk",
    "yue": "yue",
}
_SUBTAG = re.compile(r"[a-z]{2,3}")
_REGION = re.compile(r"[a-z]{2}|[0-9]{3}")


def language_tag(named: str) -> str:
    """Return the BCP 47 tag of a vendor's language name; empty: unknown.

    ``Chinese``, ``cmn-Hans-CN`` and ``zh_CN`` are ``zh``, ``zh-CN`` and ``zh-CN``.
    """
    text = unicodedata.normalize("NFKC", named).strip().casefold()
    for word in re.findall(r"\w+", text):
        # "Chinese (Cantonese)": the last name is more precise.
        if word in _LANGUAGES and ("cantonese" not in text or word == "cantonese"):
            return _LANGUAGES[word]
    first, *others = text.replace("_", "-").split("-")
    if not _SUBTAG.fullmatch(first):
        return ""
    if first == "zh" and "yue" in others:
        return "yue"
    language = _THREE.get(first, first if len(first) == 2 else "")
    region = next((other for other in others if _REGION.fullmatch(other)), "")
    return f"{language}-{region.upper()}" if language and region else language


def cleaned(transcript: Transcript) -> Transcript:
    """Remove a recogniser's tags from a transcript, and use them.

    They set the language and the emotion if the transcript has none. A transcript without letters
    or digits becomes empty: nothing was said.
    """
    language, emotion = transcript.language, transcript.emotion
    for tag in _TAG.findall(transcript.text):
        emotion = emotion or _EMOTIONS.get(tag.upper(), "")
        if tag.islower() and len(tag) < 4:
            language = language or language_tag(tag)
    for char in transcript.text:
        emotion = emotion or _FACES.get(char, "")
    return Transcript(words(transcript.text), language, emotion)


def words(text: str) -> str:
    """Return the spoken words of a recogniser's text; empty: none."""
    plain = _TAG.sub(" ", text)
    plain = _ELEMENT.sub(" ", plain)
    plain = _BRACKETS.sub(_without_noise, plain)
    plain = _SONG.sub(" ", plain)
    if plain == text and not any(_is_sign(char) for char in text):
        kept = text.strip()
    else:
        # Remove symbols, and the blanks and punctuation between them.
        bare = "".join(" " if _is_sign(char) else char for char in plain)
        kept = re.sub(r"\s+", " ", bare)
        kept = re.sub(r"(?<=[^\x00-\u2e7f]) (?=[^\x00-\u2e7f])", "", kept)
        kept = kept.strip().lstrip(",.;:!?、。，；：！？").strip()
    return kept if any(char.isalnum() for char in kept) else ""


def _without_noise(found: re.Match[str]) -> str:
    inside = next(filter(None, found.groups())).replace("_", " ").strip()
    spoken = re.findall(r"\w+", inside.casefold())
    noise = any(word in _NOISES for word in spoken) and len(spoken) <= 5
    if noise or not spoken or (len(inside) <= 8 and _NOISES_CJK.search(inside)):
        return " "
    return found.group()


def _is_sign(char: str) -> bool:
    """Return whether a character is an emoji or invisible, so that it is not spoken."""
    if char < "\u00a9":
        return False
    kind = unicodedata.category(char)
    if kind == "So":  # but ° and ㎡ are spoken
        return "\u2190" <= char < "\u3200" or char >= "\U0001f000"
    return kind in ("Cf", "Co", "Cn") or "\ufe00" <= char <= "\ufe0f"
