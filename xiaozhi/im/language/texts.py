"""The edge's own texts, in each language."""

from __future__ import annotations

from typing import Final

from xiaozhi.languages.catalogue import Catalogue

TEXTS: Final = Catalogue(
    {
        "en": {
            "outage_status": "Offline",
            "outage_message": "The assistant cannot be reached. Please try again in a moment.",
        },
        "zh": {
            "outage_status": "连接中断",
            "outage_message": "暂时联系不上助手，请稍后再试。",
        },
        "zh-hant": {
            "outage_status": "連線中斷",
            "outage_message": "暫時聯絡不上助理，請稍後再試。",
        },
        "ja": {
            "outage_status": "オフライン",
            "outage_message": "アシスタントに接続できません。少し待ってからもう一度どうぞ。",
        },
        "ko": {
            "outage_status": "연결 끊김",
            "outage_message": "어시스턴트에 연결할 수 없습니다. 잠시 후 다시 시도해 주세요.",
        },
        "de": {
            "outage_status": "Offline",
            "outage_message": "Der Assistent ist nicht erreichbar. Bitte gleich noch einmal.",
        },
        "fr": {
            "outage_status": "Hors ligne",
            "outage_message": "L'assistant est injoignable. Veuillez réessayer dans un instant.",
        },
        "es": {
            "outage_status": "Sin conexión",
            "outage_message": "El asistente no está disponible. Inténtalo de nuevo en un momento.",
        },
    }
)
