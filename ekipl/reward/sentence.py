"""The sentences that may state an answer, as a closed list of forms in English and Chinese.

A form is: connecting words, a subject and a verb before the answer ("So the area of the triangle is"), or words behind
it ("in total", "is the answer"). Every word of a form is listed here. A sentence with any other word states nothing, so
that no list of negations and hedges is needed.
"""

from __future__ import annotations

import re

_CONNECTING = (
    r"(?:so|thus|hence|therefore|then|finally|overall|now|ok(?:ay)?|altogether|accordingly|consequently|and"
    r"|in (?:total|all|conclusion|summary|short)|to conclude|to sum up|as a result|for this reason"
    r"|(?:it|this) follows that|(?:this|which) (?:means|shows|implies|gives|yields)(?: us)?(?: that)?|that is"
    r"|(?:we|i) (?:then |now |thus |therefore |finally )?"
    r"(?:get|got|have|find|found|obtain|obtained|see|know|conclude|determine|count|counted|can see|can conclude"
    r"|conclude with|choose|chose|select|pick|go with|answer|would choose|would select|will choose|have chosen"
    r"|would pick|would answer|would go with|will go with)"
    r"(?: that)?|i(?:'d|'ll) (?:choose|select|pick|go with)|let(?:'s| us) (?:choose|select|pick)|choose|select|pick"
    r"|here(?: is|'s))"
)
_CONNECTORS = rf"(?:{_CONNECTING}\b[\s,:]*){{0,4}}"
_ADJECTIVE = (
    r"(?:correct|final|right|best|exact|required|requested|desired|total|resulting|simplified|whole|entire|shaded"
    r"|numerical|number|unknown|missing|remaining|overall|combined|actual|true|proper|chosen|selected"
    r"|red|blue|green|yellow|purple|brown|gray|grey|cyan|black|white|orange|small|large|big|medium|tiny|metal|metallic"
    r"|rubber|glass|shiny|matte|different|distinct|unique|various|equilateral|isosceles|regular|central|inscribed"
    r"|exterior|interior|minor|major|average|mean|visible|surface|lateral|cross-sectional)"
)
_ANSWER = r"(?:answers?|ans\b\.?|results?|solutions?|choices?|options?|letters?)"
_HEAD = (
    r"(?:value|line|circle|parabola|ellipse|hyperbola|curve|sum|total|product|quotient|difference|ratio|probability"
    r"|percentage|percent|fraction|number|count|quantity|amount|area|perimeter|circumference|length|width|height|depth|breadth|side"
    r"|radius|diameter|diagonal|hypotenuse|base|volume|angle|measure|measurement|size|degrees?|arc|chord|distance|speed"
    r"|velocity|time|duration|slope|gradient|intercept|price|cost|mass|weight|temperature|age|score|equation|expression"
    r"|coordinates?|function|formula|sine|cosine|tangent|magnitude|thickness|altitude|median)"
)
_NAME = (
    r"(?:(?:∠|△|angles?|triangle|segment|line|side|arc|point)\s*)?"
    r"(?:(?-i:[A-Z]{1,5})'?|(?-i:[a-z])(?![\w(])|(?<=angle )[0-9]|(?<=∠)\s?[0-9])"
)
_CALL = r"(?:\\?(?:sin|cos|tan|cot)e?\s*\(?(?:∠|angle\s)?\s*(?-i:[A-Za-z]{1,3})\)?)"
_THING = (
    r"(?:triangles?|squares?|rectangles?|circles?|circumference|parallelogram|trapezoid|rhombus|polygon|hexagon|pentagon"
    r"|quadrilateral|cube|sphere|cylinder|cone|pyramid|prism|box|sector|region|figure|shape|angles?|sides?|line"
    r"|segment|arc|chord|tower|tree|building|ladder|rope|wire|object|objects|things|items|cubes|spheres|cylinders|balls|blocks"
    r"|people|students|apples|cars|image|picture|scene|diagram|problem|question|expression|equation|numbers?|roots?"
    r"|path|pole|river|wall|base|height|radius|diameter|diagonal|hypotenuse|perimeter|left|total|all|there|remaining|shown|visible|present)"
)
_ARTICLE = r"(?:the|a|an|my|our|its|your|this|these|each|both|all)"
_NOUN_PHRASE = rf"(?:{_ARTICLE}\s+)?(?:{_ADJECTIVE}\s+){{0,3}}"
_COMPUTED = r"(?-i:[A-Za-z0-9]{1,3}(?:\s*[-+*/]\s*[A-Za-z0-9]{1,3})+)"
_OBJECT = rf"(?:{_CALL}|{_NAME}|{_NOUN_PHRASE}{_THING}(?:\s+{_NAME})?)"
_OBJECTS = (
    rf"(?:\s+of\s+{_COMPUTED})?(?:\s+(?:of|for|in|to|on|from|between|and)\s+{_OBJECT}"
    rf"|\s+(?:(?:are|is)\s+)?(?:left|remaining|visible|shown|present|there)|\s+{_NAME}){{0,5}}"
)
_SUBJECT = (
    rf"(?:{_NOUN_PHRASE}{_ANSWER}(?:\s+(?:choice|option|letter))?(?:\s+(?:of|for|to|in)\s+{_OBJECT}){{0,2}}"
    rf"|{_NOUN_PHRASE}{_HEAD}(?:\s+{_HEAD})?{_OBJECTS}|{_NOUN_PHRASE}(?:triangle|angle)\s+{_NAME}|it|this|that|there"
    rf"|{_CALL})"
)
_VERB = (
    r"(?:(?:(?:therefore|thus|then|hence)\s+)?(?:is|are|equals?|=|measures|becomes|would be|will be|should be"
    r"|must be|has to be|comes out to be|comes out as|turns out to be|comes to)\b"
    r"(?:\s+(?:therefore|thus|then|hence|simply|exactly|equal to|given by|indeed|as follows))*\s*[:,]?|'s\b|[:=]|\n)"
)
_LEAD = re.compile(
    rf"{_CONNECTORS}(?:{_SUBJECT}\s*{_VERB}\s*|(?:{_NAME})\s*(?:is equal to|equals|is)\b\s*"
    rf"|{_NOUN_PHRASE}(?:answer|option|choice|letter|result|solution)\s+(?=[^a-z\s]|[a-z]\b))?"
    r"(?:(?:the|options?|choices?|answers?|letters?|exactly|(?:a )?total of|both)\b\s*:?\s*){0,3}",
    re.I,
)
_CHINESE_ANSWER = r"(?:最终|正确|最后)?的?(?:答案|结果|选项)"
_CHINESE_NOUN = (
    r"(?:(?:这道|本|该)题的?)?(?:三角形|四边形|矩形|正方形|圆|阴影部分|线段|图形|直线|抛物线|椭圆|△|角)?\s*"
    r"(?:∠\s*[A-Z0-9]{1,4}|[A-Z]{1,4}|[a-z])?的?"
    r"(?:值|面积|周长|长度|长|宽|高度|高|体积|半径|直径|度数|角度|大小|距离|数量|个数|总数|和|差|积|商|速度|时间|价格"
    r"|边长|概率|比例|比值|斜率|方程|表达式|解)"
)
_CHINESE_VERB = r"(?:应该?)?(?:等于|为|是|[:=]|有)\s*:?"
_CHINESE_LEAD = re.compile(
    r"(?:(?:所以|因此|因而|故|于是|综上(?:所述)?|由此可得|可得|得到?|解得|则|即|那么|最终|最后|总之|答(?!案)|我|本题|该题"
    r"|这道题)[\s,:]*){0,4}"
    rf"(?:{_CHINESE_NOUN}\s*{_CHINESE_VERB}|{_CHINESE_ANSWER}\s*(?:{_CHINESE_VERB})?|(?:图中|画面中|场景中)?{_CHINESE_VERB})?\s*"
    r"(?:(?:图中|画面中|场景中)?(?:一共|总共|共计?|还剩下?|剩下?|剩余)(?:有)?\s*)?(?:应?该?(?:选项|选择|选))?\s*:?\s*"
)
_TAIL = re.compile(
    r"[\s,]*\b(?:(?:in|by) (?:total|all)|altogether|overall|left|remaining|total|all together|respectively"
    r"|(?:in|of|on|from) (?:the|this) (?:image|picture|scene|figure|diagram|photo)"
    r"|(?:is|are) (?:left|remaining|visible|shown|present|there)|(?:that |which )?remain)$",
    re.I,
)
_PREDICATE = re.compile(
    r"\s+(?:is|are|would be|must be|should be)\s+(?:therefore\s+|thus\s+)?(?:(?:the|my|our)\s+)?"
    r"(?:(?:correct|right|final|best)\s+)?(?:answer|choice|option|letter|result|solution|value)s?$"
    r"|\s+(?:is|are|must be)\s+(?:correct|right|true|the (?:correct|right) one)$"
    r"|\s*(?:是|为)(?:正确|最终)?的?(?:答案|选项)$|\s*是?正确的?$",
    re.I,
)
_SENTENCES = re.compile(r"(?<=[.!?;])\s+|\n+")
_CONCLUSION = re.compile(rf"[*#_\s]{{0,8}}{_CONNECTORS}(?:{_NOUN_PHRASE}answer\b|(?:正确|最终|最后)?的?答案)", re.I)
_MATH = r"(?:[-0-9 .=+*/^()°π√∠△{}\\]|(?<![A-Za-z])(?-i:[A-Z]{1,4}|[a-z])(?![A-Za-z]))+"
_WORKING = re.compile(  # a line of working, without words
    rf"{_MATH},\s*(?:so|thus|hence|therefore)\b\s*|(?:since|because|as|given(?: that)?)\s+{_MATH},\s*",
    re.I,
)


def stated(text: str) -> str:
    """What the text states, without the words of its form: ``So the answer is 5 cm in total.`` -> ``5 cm``.

    A text of no known form comes back as it is, but for a final full stop: it is for the reader of values and letters
    to refuse words that it does not know.
    """
    text = _unquoted(_unstopped(text))
    for _ in range(2):
        text = _TAIL.sub("", _PREDICATE.sub("", text))
        if working := _WORKING.match(text):
            text = text[working.end() :]
        lead = _LEAD.match(text)
        if lead and lead.end() or not text.isascii() and (lead := _CHINESE_LEAD.match(text)):
            text = text[lead.end() :]
        text = _unquoted(_unstopped(text.strip()))
        text = _TAIL.sub("", _PREDICATE.sub("", text))
    return _unquoted(text.strip())


def conclusion(text: str) -> str:
    """The last sentence of a completion without tags, where it begins with "the answer" or holds the only box.

    Otherwise the text itself.
    """
    parts = [part for part in _SENTENCES.split(text.strip()) if part.strip()]
    if len(parts) > 1 and (_CONCLUSION.match(parts[-1]) or ("\\boxed" in parts[-1] and text.count("\\boxed") == 1)):
        return parts[-1].strip()
    return text


def _unstopped(text: str) -> str:
    return re.sub(r"(?<!\.)\s*[.,;]$", "", text.strip())


def _unquoted(text: str) -> str:
    if len(text) > 2 and text[0] == text[-1] and text[0] in "\"'" and text[0] not in text[1:-1]:
        return text[1:-1].strip()
    return text
