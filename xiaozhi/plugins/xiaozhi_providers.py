"""The providers that come with the package; names only, nothing is imported."""

from xiaozhi.providers.kit.maker import ProviderMaker

sphinx = ProviderMaker(
    "asr",
    "sphinx",
    "Offline recognition of the sentences of a grammar (pocketsphinx, English).",
    "xiaozhi.providers.offline.sphinx:SphinxRecognizer",
)
openai_asr = ProviderMaker(
    "asr",
    "openai",
    "OpenAI-compatible transcription.",
    "xiaozhi.providers.openai.audio:OpenAITranscription",
)
scripted_asr = ProviderMaker(
    "asr",
    "scripted",
    "Says it heard the configured texts, for tests.",
    "xiaozhi.providers.doubles.doubles:ScriptedRecognizer",
)

intents = ProviderMaker(
    "llm",
    "intents",
    "Offline dialogue: phrase books in English and Chinese over the tools.",
    "xiaozhi.providers.offline.intents:IntentModel",
)
openai_llm = ProviderMaker(
    "llm",
    "openai",
    "OpenAI-compatible chat with tools.",
    "xiaozhi.providers.openai.chat:OpenAIChat",
)
scripted_llm = ProviderMaker(
    "llm",
    "scripted",
    "Gives the configured answers, for tests.",
    "xiaozhi.providers.doubles.doubles:ScriptedModel",
)

espeak = ProviderMaker(
    "tts",
    "espeak",
    "Offline speech (espeak-ng, some hundred languages).",
    "xiaozhi.providers.offline.espeak:EspeakSynthesizer",
)
openai_tts = ProviderMaker(
    "tts",
    "openai",
    "OpenAI-compatible speech.",
    "xiaozhi.providers.openai.audio:OpenAISpeech",
)
tone = ProviderMaker(
    "tts",
    "tone",
    "A tone as long as the text would take, for tests.",
    "xiaozhi.providers.doubles.doubles:ToneSynthesizer",
)

stand_in = ProviderMaker(
    "vlllm",
    "stand_in",
    "Tells a picture's format and size and that there is no vision model.",
    "xiaozhi.providers.offline.no_vision:StandInVision",
)
openai_vlllm = ProviderMaker(
    "vlllm",
    "openai",
    "OpenAI-compatible chat about a picture.",
    "xiaozhi.providers.openai.vision:OpenAIVision",
)
scripted_vlllm = ProviderMaker(
    "vlllm",
    "scripted",
    "Gives the configured answers, for tests.",
    "xiaozhi.providers.doubles.doubles:ScriptedVision",
)

webrtc = ProviderMaker(
    "vad",
    "webrtc",
    "Voice activity by WebRTC's detector.",
    "xiaozhi.providers.offline.webrtc_vad:WebrtcDetector",
)
energy = ProviderMaker(
    "vad",
    "energy",
    "Voice activity by loudness alone, for tests.",
    "xiaozhi.providers.doubles.doubles:EnergyDetector",
)
