"""TeX formulas as characters that synthesisers can read: ``\\frac{1}{2}`` becomes ``1/2``."""

from __future__ import annotations

import re

_PAIRS = (
    "alpha α beta β gamma γ delta δ epsilon ε varepsilon ε zeta ζ eta η theta θ iota ι"
    " kappa κ mu μ nu ν xi ξ pi π rho ρ lambda λ sigma σ tau τ phi φ varphi φ chi χ psi ψ"
    " omega ω Gamma Γ Delta Δ Theta Θ Lambda Λ Xi Ξ Pi Π Sigma Σ Phi Φ Psi Ψ Omega Ω times ×"
    " cdot × ast × div ÷ pm ± mp ∓ le ≤ leq ≤ ge ≥ leqslant ≤ geqslant ≥ geq ≥ ne ≠ neq ≠"
    " approx ≈ sim ≈ equiv ≡ propto ∝ infty ∞ sum ∑ prod ∏ int ∫ partial ∂ nabla ∇ lt < gt >"
    " circ ° degree ° celsius ℃ prime ' ldots … cdots … dots … cap ∩ cup ∪ subset ⊂"
    " subseteq ⊆ forall ∀ exists ∃ emptyset ∅ angle ∠ perp ⊥ parallel ∥ therefore ∴"
    " because ∵ notin ∉ euro € pounds £ yen ¥ textdegree ° mid | vert | land ∧ lor ∨ neg ¬"
    " in ∈"
)
_NAMES = _PAIRS.split()
_SIGNS = dict(zip(_NAMES[::2], _NAMES[1::2], strict=True))
# Layout commands are not read; functions are read by their names.
_LOOKS = re.compile(
    r"left|right|middle|big|Big|bigg|Bigg|bigl|bigr|Bigl|Bigr|displaystyle|textstyle|"
    r"scriptstyle|limits|nolimits|quad|qquad|thinspace|enspace|hline|noindent|newline|cr|"
    r"par|small|large|Large|to|rightarrow|leftarrow|Rightarrow|Leftarrow|longrightarrow|"
    r"Longrightarrow|leftrightarrow|Leftrightarrow|iff|implies|mapsto|uparrow|downarrow|"
    r"mathstrut|hfill|n|t|r|bf|it|rm|item|centering|boldmath"
)
_UNSAID = re.compile(
    r"\\(?:begin|end|label|tag|color|textcolor|hspace|vspace|phantom|ref|cite[pt]?|footnote"
    r"|includegraphics|usepackage|documentclass)\*?(?:\[[^\[\]]*\])?\{[^{}]*\}(?:\{[lcr|]+\})?"
)
_FRACTION = re.compile(r"\\[dtc]?frac\s*(?:\{([^{}]*)\}|(\w))\s*(?:\{([^{}]*)\}|(\w))")
_ROOT = re.compile(r"\\sqrt\s*(?:\[([^\[\]]*)\])?\s*(?:\{([^{}]*)\}|(\w))")
_WITH_TEXT = re.compile(r"(\\[A-Za-z]+)?\\(?!(?:[dtc]?frac|sqrt)\b)[A-Za-z]+\*?\s?\{([^{}]*)\}")
_DEGREES = re.compile(r"\^\s*(?:\{\s*)?\\(?:circ|degree)\b(?:\s*\})?")
_COMMAND = re.compile(r"\\([A-Za-z]+)")
_SPACE = re.compile(r"\\[,;:! ]|\\\\(?:\[[^\[\]]*\])?|(?<=\d)\\(?=\s)")
_RAISED = re.compile(r"\^\s*(?:\{([^{}]*)\}|([\w+*-]))")
_LOWERED = re.compile(r"_\s*(?:\{([^{}]*)\}|(\w))")
_RAISED_BRACES = re.compile(r"\^\{([^{}]*)\}")
_LOWERED_BRACES = re.compile(r"_\{([^{}]*)\}|(?<=[∑∫∏])_(\w)")
_SUPERSCRIPTS = str.maketrans("0123456789+-=()ni", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁼⁽⁾ⁿⁱ")
_DELIMITED = re.compile(
    r"\\begin\{\w+\*?\}(.+?)\\end\{\w+\*?\}|\$\$(.+?)\$\$|\\\((.+?)\\\)|\\\[(.+?)\\\]"
    r"|(?<![\w$\\])\$(?!\s)([^$]{1,300}?)(?<![\s\\])\$(?!\w)",
    re.S,
)
_SUMS = re.compile(r"[=+\\^_{}*/<>]|-")
_DEPTH = 4


def raised(text: str) -> str:
    """Return superscript characters where they exist: ``2`` becomes ``²``."""
    signs = text.replace(" ", "").translate(_SUPERSCRIPTS)
    return signs if not any(char.isalnum() and char.isascii() for char in signs) else f" {text}"


def readable(sentence: str) -> str:
    """Return the sentence with its TeX formulas made readable."""
    if not any(sign in sentence for sign in ("\\", "$", "^{", "_{")):
        return sentence
    sentence = _DELIMITED.sub(_formula, sentence)
    if "\\" in sentence:
        sentence = _commands(sentence)
    sentence = _LOWERED_BRACES.sub(lambda found: f" {found[1] or found[2]} ", sentence)
    return _RAISED_BRACES.sub(lambda found: raised(found[1]), sentence)


def _formula(found: re.Match[str]) -> str:
    text = next(group for group in found.groups() if group is not None)
    if text[0].isdigit() and " " in text and not _SUMS.search(text):
        # "From $5 to 10$" is a price.
        return found[0]
    text = _commands(text)
    text = _RAISED.sub(lambda m: raised(m[1] or m[2] or ""), text)
    text = _LOWERED.sub(lambda m: m[1] or m[2] or "", text)
    return text.translate(_BRACES).strip()


_BRACES = str.maketrans({"{": "", "}": "", "&": " ", "~": " "})


def _commands(text: str) -> str:
    text = _SPACE.sub(" ", _UNSAID.sub(" ", _DEGREES.sub("°", text)))
    for _ in range(_DEPTH):
        before = text
        text = _FRACTION.sub(_fraction, text)
        text = _ROOT.sub(lambda m: f"√{_grouped(m[2] or m[3] or '')}", text)
        text = _WITH_TEXT.sub(_text, text)
        if text == before:
            break
    return _COMMAND.sub(_command, text)


def _text(found: re.Match[str]) -> str:
    # "\\cdot\\vec{b}" must not become "\\cdotb".
    return f"{found[1]} {found[2]}" if found[1] else found[2]


def _fraction(found: re.Match[str]) -> str:
    above, below = found[1] or found[2] or "", found[3] or found[4] or ""
    return f"{_grouped(above)}/{_grouped(below)}"


def _grouped(text: str) -> str:
    text = text.strip()
    return text if re.fullmatch(r"[\w.√]*", text) else f"({text})"


def _command(found: re.Match[str]) -> str:
    name = found[1]
    if _LOOKS.fullmatch(name):
        return " "
    return _SIGNS.get(name) or f" {name} "
