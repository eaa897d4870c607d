"""The server's own texts and phrases, in every language with a catalogue."""

from __future__ import annotations

from typing import Final

from xiaozhi.languages.catalogue import Catalogue

CATALOGUES: Final[dict[str, dict[str, str]]] = {
    "en": {
        "apology": "Sorry, something went wrong. Please try again.",
        "apology_title": "Error",
        "checking": "One moment, let me look.",
        "confirm": "Shall I do this: {title}?",
        "date": "{day} {month} {year}",
        "farewell": "Goodbye for now.",
        "deaf": "I did not hear anything. Please say it again.",
        "deaf_title": "Not heard",
        "interrupted": "[interrupted]",
        "language": "English",
        "months": "January February March April May June July August September October"
        " November December",
        "mood": "By the sound of their voice, the person is now {mood}. Take it into "
        "account, but do not mention it unless it matters.",
        "moods": "happy|sad|angry|frightened|surprised|ill at ease|laughing|crying",
        "no_answer": "I have no answer to that.",
        "photo_question": "What is in the picture?",
        "summary": "What was said earlier, in short: {summary}",
        "summary_task": "You keep notes of a conversation between a person and their voice"
        " assistant. Rewrite, in at most {words} words, what the assistant should remember of the"
        " notes and the conversation below: who the person is, what they like and want, what was"
        " done and promised. Write only the notes, in the language of the conversation.",
        "too_many_tools": "I could not finish that.",
        "unheard": "[interrupted before anything was heard]",
        "waiting": "One moment, please.",
        "weekdays": "Monday Tuesday Wednesday Thursday Friday Saturday Sunday",
    },
    "zh": {
        "apology": "抱歉，出了点问题，请再试一次。",
        "apology_title": "出错了",
        "checking": "稍等，我看看。",
        "confirm": "要我执行“{title}”吗？",
        "date": "{year}年{month}{day}日",
        "farewell": "我先休息了，再见。",
        "deaf": "我什么都没有听到，请再说一次。",
        "deaf_title": "没听见",
        "interrupted": "[被打断]",
        "language": "中文",
        "months": "1月 2月 3月 4月 5月 6月 7月 8月 9月 10月 11月 12月",
        "mood": "从声音听来，对方现在{mood}。回答时请体会这种心情，但没有必要就不要提起。",
        "moods": "很开心|很难过|很生气|很害怕|很惊讶|不太舒服|在笑|在哭",
        "no_answer": "这个我答不上来。",
        "photo_question": "图片里有什么？",
        "summary": "之前谈话的摘要：{summary}",
        "summary_task": "你负责记录一个人和语音助手的谈话。请根据下面已有的记录和谈话，"
        "用不超过{words}个字重新写下助手应该记住的内容：这个人是谁，喜欢什么、想要什么，"
        "做了什么、答应了什么。只写记录本身，用谈话的语言。",
        "too_many_tools": "这件事我没能完成。",
        "unheard": "[还没说出口就被打断]",
        "waiting": "请稍等，我想一想。",
        "weekdays": "星期一 星期二 星期三 星期四 星期五 星期六 星期日",
    },
    "zh-hant": {
        "apology": "抱歉，出了點問題，請再試一次。",
        "apology_title": "出錯了",
        "checking": "稍等，我看一下。",
        "confirm": "要我執行「{title}」嗎？",
        "date": "{year}年{month}{day}日",
        "farewell": "我先休息了，再見。",
        "deaf": "我什麼都沒有聽到，請再說一次。",
        "deaf_title": "沒聽見",
        "interrupted": "[被打斷]",
        "language": "中文",
        "months": "1月 2月 3月 4月 5月 6月 7月 8月 9月 10月 11月 12月",
        "mood": "從聲音聽來，對方現在{mood}。回答時請體會這種心情，但沒有必要就不要提起。",
        "moods": "很開心|很難過|很生氣|很害怕|很驚訝|不太舒服|在笑|在哭",
        "no_answer": "這個我答不上來。",
        "photo_question": "圖片裡有什麼？",
        "summary": "之前談話的摘要：{summary}",
        "summary_task": "你負責記錄一個人和語音助理的談話。請根據下面已有的記錄和談話，"
        "用不超過{words}個字重新寫下助理應該記住的內容：這個人是誰，喜歡什麼、"
        "想要什麼，做了什麼、答應了什麼。只寫記錄本身，用談話的語言。",
        "too_many_tools": "這件事我沒能完成。",
        "unheard": "[還沒說出口就被打斷]",
        "waiting": "請稍等，我想一想。",
        "weekdays": "星期一 星期二 星期三 星期四 星期五 星期六 星期日",
    },
    "ja": {
        "apology": "すみません、うまくいきませんでした。もういちどおねがいします。",
        "apology_title": "エラー",
        "checking": "すこしおまちください。しらべてみます。",
        "confirm": "「{title}」を実行してもいいですか？",
        "date": "{year}年{month}{day}日",
        "farewell": "それでは、またね。",
        "deaf": "何も聞こえませんでした。もう一度お話しください。",
        "deaf_title": "聞こえません",
        "interrupted": "[中断]",
        "language": "日本語",
        "months": "1月 2月 3月 4月 5月 6月 7月 8月 9月 10月 11月 12月",
        "mood": "声の調子では、相手は今{mood}。それを踏まえて答え、"
        "必要がなければ触れないでください。",
        "moods": "喜んでいます|悲しんでいます|怒っています|怖がっています|驚いています|"
        "不快そうです|笑っています|泣いています",
        "no_answer": "それにはおこたえできません。",
        "photo_question": "この写真には何が写っていますか？",
        "summary": "これまでの会話の要約：{summary}",
        "summary_task": "あなたは、ある人と音声アシスタントの会話の記録係です。"
        "下の記録と会話をもとに、"
        "アシスタントが覚えておくべきことを{words}字以内で新しく書いてください。"
        "その人が誰で、何を好み、何を望み、何をして、何を約束したかです。"
        "記録だけを、会話の言語で書いてください。",
        "too_many_tools": "さいごまでできませんでした。",
        "unheard": "[何も聞こえないうちに中断]",
        "waiting": "すこしおまちください。",
        "weekdays": "月曜日 火曜日 水曜日 木曜日 金曜日 土曜日 日曜日",
    },
    "ko": {
        "apology": "죄송합니다. 문제가 생겼습니다. 다시 말씀해 주세요.",
        "apology_title": "오류",
        "checking": "잠시만요, 확인해 볼게요.",
        "confirm": "{title} 기능을 실행할까요?",
        "date": "{year}년 {month} {day}일",
        "farewell": "그럼 다음에 또 봐요.",
        "deaf": "아무것도 듣지 못했어요. 다시 말씀해 주세요.",
        "deaf_title": "듣지 못함",
        "interrupted": "[중단됨]",
        "language": "한국어",
        "months": "1월 2월 3월 4월 5월 6월 7월 8월 9월 10월 11월 12월",
        "mood": "목소리로 보아 상대방은 지금 {mood}. 이를 고려해 대답하되, 필요하지 "
        "않으면 언급하지 마세요.",
        "moods": "기뻐하고 있습니다|슬퍼하고 있습니다|화가 나 있습니다|무서워하고 "
        "있습니다|놀라고 있습니다|불편해하고 있습니다|웃고 있습니다|울고 있습니다",
        "no_answer": "그건 제가 대답할 수 없어요.",
        "photo_question": "사진에 무엇이 있나요?",
        "summary": "이전 대화 요약: {summary}",
        "summary_task": "당신은 한 사람과 음성 비서의 대화를 기록합니다. 아래의 기록과 대화를 "
        "바탕으로 비서가 기억해야 할 내용을 {words}자 이내로 새로 쓰세요. 그 "
        "사람이 누구이고, 무엇을 좋아하고 원하며, 무엇을 했고 무엇을 "
        "약속했는지입니다. 기록만, 대화의 언어로 쓰세요.",
        "too_many_tools": "끝까지 하지 못했어요.",
        "unheard": "[아무 말도 들리기 전에 중단됨]",
        "waiting": "잠시만 기다려 주세요.",
        "weekdays": "월요일 화요일 수요일 목요일 금요일 토요일 일요일",
    },
    "de": {
        "apology": "Entschuldigung, da ist etwas schiefgegangen. Bitte noch einmal.",
        "apology_title": "Fehler",
        "checking": "Einen Moment, ich sehe nach.",
        "confirm": "Soll ich das tun: {title}?",
        "date": "{day}. {month} {year}",
        "farewell": "Bis zum nächsten Mal.",
        "deaf": "Ich habe nichts gehört. Bitte noch einmal.",
        "deaf_title": "Nichts gehört",
        "interrupted": "[unterbrochen]",
        "language": "Deutsch",
        "months": "Januar Februar März April Mai Juni Juli August September Oktober "
        "November Dezember",
        "mood": "Der Stimme nach ist die Person gerade {mood}. Berücksichtige das, aber "
        "erwähne es nur, wenn es wichtig ist.",
        "moods": "fröhlich|traurig|wütend|verängstigt|überrascht|unbehaglich gestimmt|am "
        "Lachen|am Weinen",
        "no_answer": "Darauf weiß ich keine Antwort.",
        "photo_question": "Was ist auf dem Bild?",
        "summary": "Was vorher gesagt wurde, in Kürze: {summary}",
        "summary_task": "Du führst Notizen über ein Gespräch zwischen einem Menschen und seinem "
        "Sprachassistenten. Schreibe aus den Notizen und dem Gespräch unten in "
        "höchstens {words} Wörtern neu auf, was sich der Assistent merken soll: "
        "wer der Mensch ist, was er mag und möchte, was getan und versprochen "
        "wurde. Schreibe nur die Notizen, in der Sprache des Gesprächs.",
        "too_many_tools": "Das konnte ich nicht zu Ende bringen.",
        "unheard": "[unterbrochen, bevor etwas zu hören war]",
        "waiting": "Einen Moment bitte.",
        "weekdays": "Montag Dienstag Mittwoch Donnerstag Freitag Samstag Sonntag",
    },
    "fr": {
        "apology": "Désolé, quelque chose s'est mal passé. Veuillez réessayer.",
        "apology_title": "Erreur",
        "checking": "Un instant, je regarde.",
        "confirm": "Dois-je faire ceci : {title} ?",
        "date": "{day} {month} {year}",
        "farewell": "À bientôt.",
        "deaf": "Je n'ai rien entendu. Pouvez-vous répéter ?",
        "deaf_title": "Rien entendu",
        "interrupted": "[interrompu]",
        "language": "français",
        "months": "janvier février mars avril mai juin juillet août septembre octobre "
        "novembre décembre",
        "mood": "À en juger par sa voix, la personne est en ce moment {mood}. Tiens-en "
        "compte, mais n'en parle que si c'est utile.",
        "moods": "d'humeur joyeuse|triste|en colère|sous l'effet de la peur|sous l'effet "
        "de la surprise|mal à l'aise|en train de rire|en train de pleurer",
        "no_answer": "Je n'ai pas de réponse à cela.",
        "photo_question": "Que voit-on sur la photo ?",
        "summary": "Résumé de ce qui a été dit : {summary}",
        "summary_task": "Tu tiens des notes sur une conversation entre une personne et son "
        "assistant vocal. À partir des notes et de la conversation ci-dessous, "
        "réécris en {words} mots au plus ce que l'assistant doit retenir : qui "
        "est la personne, ce qu'elle aime et souhaite, ce qui a été fait et "
        "promis. Écris seulement les notes, dans la langue de la conversation.",
        "too_many_tools": "Je n'ai pas pu aller jusqu'au bout.",
        "unheard": "[interrompu avant d'être entendu]",
        "waiting": "Un instant, s'il vous plaît.",
        "weekdays": "lundi mardi mercredi jeudi vendredi samedi dimanche",
    },
    "es": {
        "apology": "Lo siento, algo ha salido mal. Inténtalo de nuevo.",
        "apology_title": "Error",
        "checking": "Un momento, voy a mirar.",
        "confirm": "¿Hago esto: {title}?",
        "date": "{day} de {month} de {year}",
        "farewell": "Hasta luego.",
        "deaf": "No he oído nada. Repítelo, por favor.",
        "deaf_title": "No se oye nada",
        "interrupted": "[interrumpido]",
        "language": "español",
        "months": "enero febrero marzo abril mayo junio julio agosto septiembre octubre "
        "noviembre diciembre",
        "mood": "Por su voz, la persona ahora {mood}. Tenlo en cuenta, pero no lo "
        "menciones si no hace falta.",
        "moods": "siente alegría|siente tristeza|siente enfado|siente miedo|siente "
        "sorpresa|siente incomodidad|se ríe|llora",
        "no_answer": "No tengo respuesta para eso.",
        "photo_question": "¿Qué hay en la foto?",
        "summary": "Resumen de lo dicho antes: {summary}",
        "summary_task": "Llevas las notas de una conversación entre una persona y su asistente "
        "de voz. A partir de las notas y de la conversación de abajo, vuelve a "
        "escribir en {words} palabras como máximo lo que el asistente debe "
        "recordar: quién es la persona, qué le gusta y qué quiere, qué se ha "
        "hecho y prometido. Escribe solo las notas, en el idioma de la "
        "conversación.",
        "too_many_tools": "No he podido terminarlo.",
        "unheard": "[interrumpido antes de que se oyera nada]",
        "waiting": "Un momento, por favor.",
        "weekdays": "lunes martes miércoles jueves viernes sábado domingo",
    },
}

TEXTS: Final = Catalogue(CATALOGUES)

# Keys of frequently spoken texts, the most frequent first.
SPOKEN: Final = (
    "apology",
    "waiting",
    "checking",
    "farewell",
    "no_answer",
    "too_many_tools",
)


def catalogue_of(language: str) -> str:
    """Return the language of the catalogue that serves a language.

    :param language: BCP 47.
    """
    return TEXTS.language(language)


def text(key: str, language: str) -> str:
    """Return a text.

    :param language: BCP 47; English if there is no catalogue.
    """
    return TEXTS.text(key, language)
