"""Markup of model families in an answer: reasoning, tool calls, turns."""
# ruff: noqa: E501 (tables, a row a line)

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from xiaozhi.ai.llm.writtencalls import read
from xiaozhi.base.modeltext.answerfilter import AnswerFilter, WrittenCall
from xiaozhi.base.modeltext.reasoning import ThoughtFilter

TOOLS: dict[str, dict[str, Any]] = {
    "get_time": {"timezone": {"type": "string"}},
    "set_volume": {"volume": {"type": "integer"}},
    "打开灯": {"room": {"type": "string"}},
}
LOUD = {"volume": 30}
TIME: tuple[str, dict[str, Any]] = ("get_time", {})
VOLUME = ("set_volume", LOUD)
LIGHT = ("打开灯", {"room": "客厅"})

# A model's text, and the spoken part of it.
SAID = (
    # Reasoning.
    ("<mm:think>Hm.</mm:think>Yes.", "Yes."),
    ('<think time="3">Hm.</think>\n\nYes.', "Yes."),
    ("<think/>Yes.", "Yes."),
    ("<THINKING>Hm.</THINKING> Yes.", "Yes."),
    ("<antThinking>Hm.</antThinking>Yes.", "Yes."),
    ("<seed:think>Hm.</seed:think>Yes.", "Yes."),
    ("<inner_thoughts>Hm.</inner_thoughts>Yes.", "Yes."),
    ("<reasoning>Hm.</reasoning>\nYes.", "Yes."),
    ("<reflection>Hm.</reflection>Yes.", "Yes."),
    ("[THINK]Hm.[/THINK]Yes.", "Yes."),
    ("<thought_process>Hm.</thought_process>Yes.", "Yes."),
    ("<reasoning_content>Hm.</reasoning_content>Yes.", "Yes."),
    ("<思考>嗯。</思考>好的。", "好的。"),
    ("<思考过程>嗯。</思考过程><开心>好的。", "<开心>好的。"),
    ("◁think▷Hm.◁/think▷Yes.", "Yes."),
    ("<|begin_of_thought|>Hm.<|end_of_thought|>\n<|begin_of_solution|>Yes.<|end_of_solution|>", "Yes."),
    ("<|START_THINKING|>Hm.<|END_THINKING|><|START_RESPONSE|>Yes.<|END_RESPONSE|>", "Yes."),
    ("<unused94>thought\nHm.<unused95>Yes.", "Yes."),
    ("<|channel>thought\nHm.<channel|>Yes.", "Yes."),
    ("<|think|>Hm.<|/think|>Yes.", "Yes."),
    ("Yes.<think>Hm", "Yes."),
    ("Yes. [THINK]Hm", "Yes."),
    ("好的。<think>嗯</think>现在", "好的。现在"),
    ("foo<think>x</think>bar", "foo bar"),
    # Harmony: only its final channel is for the person.
    (
        ("<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>"
        "Yes.<|return|>"),
        "Yes.",
    ),
    (
        ("<|start|>assistant<|channel|>commentary<|message|>Plan.<|end|>"
        "<|start|>assistant<|channel|>final <|constrain|>text<|message|>Yes."),
        "Yes.",
    ),
    ("<|channel|>analysis<|message|>Hm.<|channel|>final<|message|>Yes.<|end|>", "Yes."),
    ("<|channel|>final<|message|>Yes.", "Yes."),
    ("<|channel|>analysis<|message|>Hm. never ends", ""),
    ("analysisWe need to answer.assistantfinalYes.", "Yes."),
    ("analysis用户问好。assistantfinal你好。", "你好。"),
    ("analysisWe need to", ""),
    ("analysis is a part of maths.", "analysis is a part of maths."),
    ("analys", "analys"),
    # Turns and roles.
    ("Yes.<|im_end|>", "Yes."),
    ("Yes.</s>", "Yes."),
    ("<s>Yes.</s>", "Yes."),
    ("Yes.<|eot_id|>", "Yes."),
    ("Yes.<end_of_turn>", "Yes."),
    ("Yes.<|endoftext|>", "Yes."),
    ("Yes.<｜end▁of▁sentence｜>", "Yes."),
    ("Yes.<eos><pad><unk>", "Yes."),
    ("Yes.[EOS]", "Yes."),
    ("Yes.<|END_OF_TURN_TOKEN|>", "Yes."),
    ("Yes.<|some_new_token_17|>", "Yes."),
    ("<|im_start|>assistant\nYes.<|im_end|>", "Yes."),
    ("<|im_assistant|>assistant<|im_middle|>Yes.<|im_end|>", "Yes."),
    ("<start_of_turn>model\nYes.<end_of_turn>", "Yes."),
    ("<|start_header_id|>assistant<|end_header_id|>\n\nYes.<|eot_id|>", "Yes."),
    ("<|start_of_role|>assistant<|end_of_role|>Yes.<|end_of_text|>", "Yes."),
    ("<｜Assistant｜>Yes.", "Yes."),
    ("Yes.<|im_end|>\n<|im_start|>user\nAnd now?<|im_end|>", "Yes."),
    ("Yes.<|end|><|user|>And now?", "Yes."),
    ("Yes.<|user|>And now?<|assistant|>Nothing.", "Yes. Nothing."),
    ("Yes.[INST]And now?[/INST]", "Yes."),
    ("Hello<|im_end|>there", "Hello there"),
    ("你好<|im_end|>", "你好"),
    ("<|begin_of_box|>42<|end_of_box|>", "42"),
    ("Yes.[|endofturn|]", "Yes."),
    ("[|assistant|]Yes.[|endofturn|]\n[|user|]And now?", "Yes."),
    # Truncated.
    ("Yes.<|im_end", "Yes."),
    ("Yes.<|im_end|", "Yes."),
    ("Yes.<｜end▁of▁sen", "Yes."),
    ("Yes.</think", "Yes."),
    ("Yes.</tool_call", "Yes."),
    ("Yes. <|", "Yes. <|"),
    ("Is a<b", "Is a<b"),
    # Results invented by a model.
    ("<tool_response>{}</tool_response>Yes.", "Yes."),
    ("✿RESULT✿: 7\n✿RETURN✿: Yes.", "Yes."),
    ("[TOOL_RESULTS]{}[/TOOL_RESULTS]Yes.", "Yes."),
    # Lookalikes of tags.
    ("a < b and c > d", "a < b and c > d"),
    ("a<b, 5<6, x[1] and [a]", "a<b, 5<6, x[1] and [a]"),
    ("<3 <- <= << >>", "<3 <- <= << >>"),
    ("f(x) = |x| <| and |>", "f(x) = |x| <| and |>"),
    ("[thinking] [Tool] [T", "[thinking] [Tool] [T"),
    ("Use <b>bold</b> `code`", "Use <b>bold</b> `code`"),
    ("{a} {1, 2} { \"x", "{a} {1, 2} { \"x"),
    ('{"emotion": "happy"} Hi.', '{"emotion": "happy"} Hi.'),
    ('{"name": "Bob", "age": 3}', '{"name": "Bob", "age": 3}'),
    ("[sic(k)] well", "[sic(k)] well"),
    ("```python\nx = 1\n```", "```python\nx = 1\n```"),
    ('```json\n{"a": 1}\n```', '```json\n{"a": 1}\n```'),
    ("✿ ✿✿ flowers ✿", "✿ ✿✿ flowers ✿"),
    ("◁ back", "◁ back"),
)  # fmt: skip

# A model's text, the calls in it, and the spoken part of it.
CALLED: tuple[tuple[str, tuple[tuple[str, dict[str, Any]], ...], str], ...] = (
    # Hermes, Qwen.
    ('<tool_call>\n{"name": "get_time", "arguments": {}}\n</tool_call>', (TIME,), ""),
    ('One moment. <tool_call>{"name":"set_volume","arguments":{"volume":30}}</tool_call>', (VOLUME,), "One moment."),
    ('<tool_call>{"name":"get_time"}</tool_call>\n<tool_call>{"name":"set_volume","arguments":"{\\"volume\\":30}"}</tool_call>', (TIME, VOLUME), ""),
    ('<tool_call>{"name":"get_time"}\n<tool_call>{"name":"set_volume","arguments":{"volume":30}}', (TIME, VOLUME), ""),
    ("<tool_call>{'name': 'set_volume', 'arguments': {'volume': 30}}</tool_call>", (VOLUME,), ""),
    ('<tool_call>{"name":"get_time","arguments":{}}</tool_call>It is noon.', (TIME,), "It is noon."),
    ('<tool_call>{"name":"get_time","arguments":{}} It is noon.', (TIME,), "It is noon."),
    ('<function_call>{"name":"get_time","parameters":null}</tool_call>', (TIME,), ""),
    ('<tools>[{"name":"get_time"}]</tools>', (TIME,), ""),
    ('<TOOLCALL>[{"name":"set_volume","arguments":{"volume":30}}]</TOOLCALL>', (VOLUME,), ""),
    ('<tool_calls>\n<tool_call>{"name":"get_time"}</tool_call>\n</tool_calls>', (TIME,), ""),
    ('<tool_call>{"function":{"name":"get_time","arguments":"{}"}}</tool_call>', (TIME,), ""),
    ('<tool_call>{"get_time": {}}</tool_call>', (TIME,), ""),
    ('<tool_call>{"name":"打开灯","arguments":{"room":"客厅"}}</tool_call>好的。', (LIGHT,), "好的。"),
    # XML.
    ('<function=set_volume>{"volume": 30}</function>', (VOLUME,), ""),
    ("<tool_call>\n<function=set_volume>\n<parameter=volume>\n30\n</parameter>\n</function>\n</tool_call>", (VOLUME,), ""),
    ('<minimax:tool_call>\n<invoke name="set_volume">\n<parameter name="volume">30</parameter>\n</invoke>\n</minimax:tool_call>', (VOLUME,), ""),
    ('<function_calls><invoke name="get_time"></invoke><invoke name="set_volume"><parameter name="volume">30</parameter></invoke></function_calls>', (TIME, VOLUME), ""),
    ('<｜DSML｜function_calls><｜DSML｜invoke name="set_volume"><｜DSML｜parameter name="volume" string="false">30</｜DSML｜parameter></｜DSML｜invoke></｜DSML｜function_calls>', (VOLUME,), ""),
    ("<tool_call>set_volume\n<arg_key>volume</arg_key>\n<arg_value>30</arg_value>\n</tool_call>", (VOLUME,), ""),
    ("<tool_call>get_time</tool_call>", (TIME,), ""),
    ("<tool_use><name>set_volume</name><arguments>{\"volume\": 30}</arguments></tool_use>", (VOLUME,), ""),
    ("<seed:tool_call><function=打开灯><parameter=room>客厅</parameter></function></seed:tool_call>", (LIGHT,), ""),
    ('<function=set_volume{"volume": 30}</function>', (VOLUME,), ""),
    ('<function=set_volume [{"volume": 30}]</function>', (VOLUME,), ""),
    ('<function(set_volume)>{"volume": 30}</function>', (VOLUME,), ""),
    ('<function/set_volume>{"volume": 30}</function>Done.', (VOLUME,), "Done."),
    ("<function=get_time></function>", (TIME,), ""),
    ('<tool_call>{{"name": "get_time", "arguments": {}}}</tool_call>', (TIME,), ""),
    # Tokens.
    ('<|tool_call|>[{"name":"set_volume","arguments":{"volume":30}}]', (VOLUME,), ""),
    ('<|tool_call|>[{"name":"set_volume","arguments":{"volume":30}}]<|/tool_call|>', (VOLUME,), ""),
    ("<|tool_call_start|>[set_volume(volume=30), get_time()]<|tool_call_end|>", (VOLUME, TIME), ""),
    ('<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>set_volume\n```json\n{"volume": 30}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜><｜end▁of▁sentence｜>', (VOLUME,), ""),
    ('<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>get_time<｜tool▁sep｜>{}<｜tool▁call▁end｜>\n<｜tool▁call▁begin｜>set_volume<｜tool▁sep｜>{"volume": 30}<｜tool▁call▁end｜><｜tool▁calls▁end｜>', (TIME, VOLUME), ""),
    ('<|tool_calls_section_begin|><|tool_call_begin|>set_volume:0<|tool_call_argument_begin|>{"volume": 30}<|tool_call_end|><|tool_calls_section_end|>', (VOLUME,), ""),
    ('<|python_tag|>{"name": "set_volume", "parameters": {"volume": 30}}<|eom_id|>', (VOLUME,), ""),
    ("<|python_tag|>set_volume.call(volume=30)<|eom_id|>", (VOLUME,), ""),
    ('<|action_start|><|plugin|>\n{"name":"set_volume","parameters":{"volume":30}}<|action_end|>', (VOLUME,), ""),
    ('<|START_ACTION|>[{"tool_call_id":"0","tool_name":"set_volume","parameters":{"volume":30}}]<|END_ACTION|>', (VOLUME,), ""),
    ("<|tool_call>call:set_volume{volume:30}<tool_call|>", (VOLUME,), ""),
    ('<|tool_call>call:打开灯{room:<|"|>客厅<|"|>}<tool_call|>', (LIGHT,), ""),
    # Mistral.
    ('[TOOL_CALLS][{"name":"set_volume","arguments":{"volume":30}}]', (VOLUME,), ""),
    ('[TOOL_CALLS] [{"name":"get_time","arguments":{}}]</s>', (TIME,), ""),
    ('[TOOL_CALLS]get_time[ARGS]{}[TOOL_CALLS]set_volume[CALL_ID]a1[ARGS]{"volume":30}', (TIME, VOLUME), ""),
    # Qwen-Agent.
    ('✿FUNCTION✿: set_volume\n✿ARGS✿: {"volume": 30}\n✿RESULT✿: ok\n✿RETURN✿: Done.', (VOLUME,), "Done."),
    ("Sure.\n✿FUNCTION✿：get_time\n✿ARGS✿：{}", (TIME,), "Sure."),
    # Gemma.
    ("```tool_code\nprint(set_volume(volume=30))\n```", (VOLUME,), ""),
    ("```tool_code\nset_volume(30)\n```\nDone.", (VOLUME,), "Done."),
    ('```json\n{"name": "set_volume", "arguments": {"volume": 30}}\n```', (VOLUME,), ""),
    ('```tool_call\n{"name": "get_time"}', (TIME,), ""),
    # Harmony.
    ("<|channel|>commentary to=functions.get_time <|constrain|>json<|message|>{}<|call|>", (TIME,), ""),
    ('<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant to=functions.set_volume<|channel|>commentary json<|message|>{"volume":30}<|call|>', (VOLUME,), ""),
    # Calls without markup.
    ('{"name": "set_volume", "arguments": {"volume": 30}}', (VOLUME,), ""),
    ('[{"name": "set_volume", "parameters": {"volume": 30}}]', (VOLUME,), ""),
    ('Sure.\n{"tool": "set_volume", "args": {"volume": 30}}\nDone.', (VOLUME,), "Sure.\n\nDone."),
    ("[set_volume(volume=30)]", (VOLUME,), ""),
    ('I call it: {"name": "set_volume", "arguments": {"volume": 30}} Done.', (VOLUME,), "I call it:  Done."),
    ('{"name":"get_time","arguments":{}}\n{"name":"set_volume","arguments":{"volume":30}}', (TIME, VOLUME), ""),
    ('{"type": "function", "name": "get_time", "parameters": {}}', (TIME,), ""),
    # Unreadable, or of an unknown tool: dropped all the same.
    ('<tool_call>{"name": "fly", "arguments": {}}</tool_call>Yes.', (), "Yes."),
    ('{"name": "fly", "arguments": {"to": "Mars"}}\nYes.', (), "Yes."),
    ("<tool_call>{nonsense}</tool_call>Yes.", (), "Yes."),
    ("<tool_call></tool_call>Yes.", (), "Yes."),
    ("<tool_call>", (), ""),
    ("</tool_call>Yes.", (), "Yes."),
    ("[TOOL_CALLS]nonsense", (), ""),
    ("```tool_code\nimport os\nos.remove('x')\n```", (), ""),
    ("<|python_tag|>print('x')", (), ""),
    ("<think>I could <tool_call>{\"name\":\"get_time\"}</tool_call></think>Yes.", (), "Yes."),
)  # fmt: skip

TEXTS = [text for text, _ in SAID] + [text for text, _, _ in CALLED]
Taken = tuple[str, tuple[tuple[str, dict[str, Any]], ...]]


def parameters(name: str) -> Mapping[str, Any] | None:
    return TOOLS.get(name.removeprefix("functions."))


def taken_apart(*pieces: str) -> Taken:
    """Return the spoken part and the calls."""
    answer = AnswerFilter()
    parts = [part for piece in pieces for part in answer.feed(piece)] + answer.finish()
    said, calls = "", []
    for part in parts:
        if isinstance(part, WrittenCall):
            reading = read(part, parameters)
            calls += [(n.removeprefix("functions."), json.loads(a)) for n, a in reading.calls]
            keep = not (reading.calls or part.marked or reading.refused)
            said += part.raw if keep else reading.rest
        else:
            said += part
    return said, tuple(calls)


def cut(text: str, places: list[int]) -> list[str]:
    cuts = sorted(place % (len(text) + 1) for place in places)
    return [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]


class AnswerTextTests(SynchronousTestCase):
    """:class:`AnswerFilter`."""

    def test_spoken_text(self) -> None:
        for text, said in SAID:
            got, called = taken_apart(text)
            self.assertEqual((got.strip(), called), (said, ()), text)

    def test_calls(self) -> None:
        for text, calls, said in CALLED:
            got, called = taken_apart(text)
            self.assertEqual((got.strip(), called), (said, calls), text)

    def test_by_one_character(self) -> None:
        for text in TEXTS:
            self.assertEqual(taken_apart(*text), taken_apart(text), text)

    def test_read_twice(self) -> None:
        """A provider drops reasoning and leaves the calls to the session."""
        for text in TEXTS:
            thoughts = ThoughtFilter(calls=True)
            once = thoughts.feed(text) + thoughts.finish()
            got, called = taken_apart(once)
            said, calls = taken_apart(text)
            self.assertEqual((got.split(), called), (said.split(), calls), text)

    @given(
        st.lists(st.sampled_from(TEXTS), max_size=4),
        st.lists(st.integers(0, 10_000), max_size=9),
    )
    def test_pieces_do_not_matter(self, texts: list[str], places: list[int]) -> None:
        text = "\n".join(texts)
        self.assertEqual(taken_apart(*cut(text, places)), taken_apart(text))

    @given(
        st.text(alphabet="<>|｜/[]{}✿◁▷`\"': \n=tThinkCALLS_", max_size=80),
        st.lists(st.integers(0, 10_000), max_size=9),
    )
    def test_any_text(self, text: str, places: list[int]) -> None:
        self.assertEqual(taken_apart(*cut(text, places)), taken_apart(text))

    def test_plain_text_is_not_held_back(self) -> None:
        for text in ("a < b", "a <5", "x[1", "Hello <b ", "f(x) | y", "{1", "it`s", "is [happy"):
            answer = AnswerFilter()
            self.assertEqual("".join(map(str, answer.feed(text))), text.removesuffix("`"), text)

    def test_overlong_calls_are_dropped(self) -> None:
        for opened in ("<tool_call>", "[TOOL_CALLS]", "<|python_tag|>"):
            body = '{"name":"get_time","x":"' + "a" * 40_000
            self.assertEqual(taken_apart("Yes.", opened, body)[0].strip(), "Yes.")

    def test_little_is_held(self) -> None:
        """Hostile texts: a possible tag is bounded, so the work is linear."""
        parts = ("<", "[", "{", "`", "✿", "<a:", "<think ", "[{", "<|", "<x ", "([{", "[a", "{ ")
        for part in parts:
            answer, taken, most = AnswerFilter(), 0, 0
            for at in range(2000):
                for each in answer.feed(part):
                    taken += len(each if isinstance(each, str) else each.raw)
                most = max(most, (at + 1) * len(part) - taken)
            # Possible JSON is held for longer, but only once.
            self.assertLess(most, 4_100 if part in ("[{", "{ ") else 300, part)

    def test_reading_is_quick(self) -> None:
        """Calls are bounded; no notation may take long on a text that almost matches."""
        for part in ("<function=a>", "<parameter=a>", "<arg_key>", "{", "[a(", "a:", "{'", "(-"):
            for before in ("", "{", "<function=a>", "a{"):
                call = WrittenCall((before + part * 40_000)[:32_000])
                began = time.process_time()
                read(call, parameters)
                # Far above the usual time, to catch exponential time only.
                self.assertLess(time.process_time() - began, 1.0, part)
