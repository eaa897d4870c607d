"""The providers that come with the package: names and capabilities, nothing is imported."""

from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from xiaozhi.base.capabilities import Capabilities, Place, VoiceSetting
from xiaozhi.providers.kit.maker import ProviderMaker

_LOCAL = Capabilities(Place.LOCAL)
_LOOPBACK = frozenset(("localhost", "127.0.0.1", "::1"))


def _at(settings: Any) -> Capabilities:
    """Read the place from the address of the vendor's server."""
    try:
        host = urlsplit(settings.base_url).hostname
    except ValueError:
        # Making the provider will name the key.
        return Capabilities()
    return Capabilities(Place.LOCAL if host in _LOOPBACK else Place.REMOTE)


def _openai_speech(settings: Any) -> Capabilities:
    # Other formats than PCM say their rate themselves.
    rates = (settings.sample_rate,) if settings.response_format == "pcm" else ()
    voice = VoiceSetting("id", "voice"), VoiceSetting("rate", "speed", 1.0)
    return replace(_at(settings), sample_rates=rates, voice_settings=voice)


def _scripted_recognizer(settings: Any) -> Capabilities:
    return Capabilities(Place.LOCAL, interim=settings.interim > 0)


def _tone(settings: Any) -> Capabilities:
    voice = VoiceSetting("pitch", "frequency", 440), VoiceSetting("volume", "level", 3000)
    return Capabilities(Place.LOCAL, sample_rates=(settings.sample_rate,), voice_settings=voice)


sphinx = ProviderMaker(
    "asr",
    "sphinx",
    "Offline recognition of the sentences of a grammar (pocketsphinx, English).",
    "xiaozhi.providers.offline.sphinx:SphinxRecognizer",
    Capabilities(Place.LOCAL, interim=True),
)
openai_asr = ProviderMaker(
    "asr",
    "openai",
    "OpenAI-compatible transcription.",
    "xiaozhi.providers.openai.audio:OpenAITranscription",
    _at,
)
scripted_asr = ProviderMaker(
    "asr",
    "scripted",
    "Returns the configured texts, for tests.",
    "xiaozhi.providers.doubles.recognizer:ScriptedRecognizer",
    _scripted_recognizer,
)

intents = ProviderMaker(
    "llm",
    "intents",
    "Offline dialogue: phrase books in English and Chinese over the tools.",
    "xiaozhi.providers.offline.intents:IntentModel",
    _LOCAL,
)
openai_llm = ProviderMaker(
    "llm",
    "openai",
    "OpenAI-compatible chat with tools.",
    "xiaozhi.providers.openai.chat:OpenAIChat",
    _at,
)
scripted_llm = ProviderMaker(
    "llm",
    "scripted",
    "Gives the configured answers, for tests.",
    "xiaozhi.providers.doubles.model:ScriptedModel",
    _LOCAL,
)

espeak = ProviderMaker(
    "tts",
    "espeak",
    "Offline speech (espeak-ng, some hundred languages).",
    "xiaozhi.providers.offline.espeak:EspeakSynthesizer",
    Capabilities(
        Place.LOCAL,
        sample_rates=(22050,),
        voice_settings=(
            VoiceSetting("id", "voice"),
            VoiceSetting("rate", "rate", 165),
            VoiceSetting("pitch", "pitch", 50),
            VoiceSetting("volume", "volume", 100),
        ),
    ),
)
openai_tts = ProviderMaker(
    "tts",
    "openai",
    "OpenAI-compatible speech.",
    "xiaozhi.providers.openai.audio:OpenAISpeech",
    _openai_speech,
)
tone = ProviderMaker(
    "tts",
    "tone",
    "A tone as long as the text would take, for tests.",
    "xiaozhi.providers.doubles.synthesizer:ToneSynthesizer",
    _tone,
)

stand_in = ProviderMaker(
    "vlllm",
    "stand_in",
    "Tells the format and size of a picture, and that no vision model is set up.",
    "xiaozhi.providers.offline.no_vision:StandInVision",
    Capabilities(Place.LOCAL, vision=False),
)
openai_vlllm = ProviderMaker(
    "vlllm",
    "openai",
    "OpenAI-compatible chat about a picture.",
    "xiaozhi.providers.openai.vision:OpenAIVision",
    _at,
)
scripted_vlllm = ProviderMaker(
    "vlllm",
    "scripted",
    "Gives the configured answers, for tests.",
    "xiaozhi.providers.doubles.vision:ScriptedVision",
    _LOCAL,
)

webrtc = ProviderMaker(
    "vad",
    "webrtc",
    "Voice activity by WebRTC's detector.",
    "xiaozhi.providers.offline.webrtc_vad:WebrtcDetector",
    _LOCAL,
)
energy = ProviderMaker(
    "vad",
    "energy",
    "Voice activity by loudness alone, for tests.",
    "xiaozhi.providers.doubles.activity:EnergyDetector",
    _LOCAL,
)
