"""Units behind a value, in English and Chinese: ``12 square cm`` -> ``12`` and the unit cm to the power 2.

A unit is a sorted tuple of (base, power). Two units are the same answer if they are equal, or if one is absent; nothing
is converted: 120 mm is another answer than 12 cm. Counting words (``5 cubes``, ``5个``) are units of their own.
"""

from __future__ import annotations

import re
from functools import lru_cache

Unit = tuple[tuple[str, int], ...]

_NAMES: dict[str, str] = {  # base: its spellings; "word(s)" ignores case, a symbol does not
    "mm": "mm MM millimeter(s) millimetre(s) 毫米",
    "cm": "cm CM Cm centimeter(s) centimetre(s) 厘米 公分",
    "dm": "dm decimeter(s) decimetre(s) 分米",
    "m": "m meter(s) metre(s) 米 公尺",
    "km": "km KM Km kilometer(s) kilometre(s) 千米 公里",
    "in": "in. in inch(es) 英寸 寸",
    "ft": "ft ft. feet foot 英尺",
    "yd": "yd yard(s) 码",
    "mi": "mile(s) mi 英里",
    "nmi": "nmi nautical_mile(s) 海里",
    "um": "μm um micrometer(s) micrometre(s) micron(s) 微米",
    "nm": "nm nanometer(s) nanometre(s) 纳米",
    "ha": "ha hectare(s) 公顷",
    "acre": "acre(s) 英亩",
    "mu": "亩",
    "L": "litre(s) liter(s) 升 公升 L l",
    "mL": "mL ml ML millilitre(s) milliliter(s) 毫升",
    "kg": "kg KG Kg kilogram(s) kilo(s) 千克 公斤",
    "g": "gram(s) gramme(s) 克 g",
    "mg": "mg milligram(s) 毫克",
    "t": "ton(s) tonne(s) 吨 t",
    "jin": "斤",
    "lb": "lb lbs pound(s)_of_weight 磅",
    "oz": "oz ounce(s) 盎司",
    "s": "second(s) sec secs 秒 秒钟 s",
    "ms": "ms millisecond(s) 毫秒",
    "min": "min mins minute(s) 分钟",
    "h": "hour(s) hr hrs 小时 个小时 时 h",
    "d": "day(s) 天 日",
    "week": "week(s) 周 星期 个星期",
    "month": "month(s) 个月 月",
    "year": "year(s) yr yrs 年",
    "year_old": "岁 years_old year_old",
    "°": "° degree(s) deg degs 度",
    "rad": "rad rads radian(s) 弧度",
    "°C": "°C degree(s)_celsius degree(s)_centigrade 摄氏度 celsius",
    "K": "K kelvin(s) 开尔文",
    "°F": "°F degree(s)_fahrenheit 华氏度 fahrenheit",
    "%": "% percent per_cent pct",
    "‰": "‰",
    "USD": "USD dollar(s) 美元 bucks US_dollar(s)",
    "cent": "cent(s) ¢ 美分",
    "CNY": "CNY RMB ¥ yuan 元 块 块钱 元钱 人民币",
    "jiao": "角",
    "EUR": "EUR € euro(s) 欧元",
    "GBP": "GBP £ pound(s) 英镑",
    "JPY": "JPY yen 日元",
    "INR": "INR ₹ rupee(s) 卢比",
    "Hz": "Hz hertz 赫兹 赫",
    "N": "newton(s) 牛顿 牛 N",
    "J": "joule(s) 焦耳 焦 J",
    "kJ": "kJ kilojoule(s) 千焦",
    "cal": "cal calorie(s) 卡路里 卡",
    "W": "watt(s) 瓦 瓦特 W",
    "kW": "kW kilowatt(s) 千瓦",
    "kWh": "kWh kilowatt_hour(s) 千瓦时 度电",
    "V": "volt(s) 伏 伏特 V",
    "A": "A ampere(s) amp(s) 安培 安",
    "Ω": "Ω ohm(s) 欧姆 欧",
    "Pa": "Pa pascal(s) 帕 帕斯卡",
    "kPa": "kPa kilopascal(s) 千帕",
    "mol": "mol mole(s) 摩尔",
    "unit": "unit(s) 单位 个单位 单位长度 个单位长度",
    "mph": "mph",
    "kph": "kph kmph km/hr",
}
_ALONE = "l g t s h in N J W V A K"  # symbols that may be variables: only behind a space or in a compound unit
_SPEEDS = {"mph": (("h", -1), ("mi", 1)), "kph": (("h", -1), ("km", 1))}

_NOUNS = (  # "thing" stands for each of them
    "thing object item piece element figure entity shape cube sphere cylinder ball block cone pyramid box prism "
    "triangle circle rectangle line point side edge vertex face segment dot star angle square "
    "person people man woman boy girl child student pupil worker player teacher passenger adult kid "
    "car truck van bus bike bicycle motorcycle scooter airplane plane jet vehicle boat ship train "
    "apple orange pear banana peach egg cake candy cookie flower tree leaf book pen pencil page card coin ticket "
    "stamp toy marble bead stick stone bottle cup glass bag bowl plate chair table lamp house room window door "
    "dog cat bird fish horse cow sheep pig chicken duck rabbit animal bee ant "
    "step time way case group row column type kind point mark score digit number place turn game question problem"
)
_COUNTED = _NOUNS.split()
_PLURALS = (
    "people person, men man, women woman, children child, vertices vertex, leaves leaf, candies candy, wives wife"
)
_IRREGULAR = dict(pair.split() for pair in _PLURALS.split(", "))
_ADJECTIVES = (
    "small|medium|large|big|tiny|red|green|blue|yellow|gray|grey|cyan|brown|purple|black|white|orange|pink|metal|metallic"
    "|rubber|glass|shiny|matte|wooden|different|distinct|various|unique|separate|visible|remaining|total"
)
_CHINESE_PAIRS = (
    "个 thing, 物体 thing, 件 thing, 项 thing, 样 thing, 人 person, 名 person, 位 person, 种 kind, 次 time, 步 step"
    ", 辆 car, 棵 tree, 本 book, 组 group, 行 row, 列 column, 题 question"
)
_CHINESE_COUNTED = dict(pair.split() for pair in _CHINESE_PAIRS.split(", ")) | {
    sign: sign for sign in "只张条台支头匹朵颗箱盒袋层间座艘架根把片枚瓶杯段排"
}
_CHINESE_NOUN = (
    "(?:不同的?)?(?:物体|东西|物品|球|球体|立方体|正方体|圆柱体?|方块|苹果|学生|人|男生|女生|车|书|花|树|三角形)?"
)


def _spelling(word: str) -> str:
    if word.isascii() and "(" in word or len(word) > 3 and word.isascii() and word.replace("_", "").isalpha():
        body = re.sub(r"\(([a-z]+)\)", r"(?:\1)?", word).replace("_", r"\ ")
        return f"(?i:{body})"
    return re.escape(word).replace("_", r"\ ")


def _bases() -> tuple[str, list[tuple[re.Pattern[str], str]]]:
    words = [(word, base) for base, words in _NAMES.items() for word in words.split()]
    pairs = [(_spelling(word), base) for word, base in sorted(words, key=lambda pair: -len(pair[0]))]
    return "|".join(spelling for spelling, _ in pairs), [(re.compile(s), base) for s, base in pairs]


_ANY, _TABLE = _bases()
_POWER = r"(?:\s*\^\s*(?:\{\s*-?[1-4]\s*\}|-?[1-4])|\s+(?i:squared|cubed)|(?<=m)[23](?![0-9]))?"
_FACTOR = rf"(?:(?i:square|sq\.?|cubic|cu\.?|平方|立方)\s*)?(?:{_ANY}){_POWER}"
_JOINT = r"\s*(?:/|\*|(?i:\bper\b|\ban?\b)|\bp\b|每|(?<=[a-z])\s(?=[a-zA-Z]+\^))\s*"
_LETTER = r"(?<![A-Za-z\\])"
_SUFFIX = re.compile(rf"(?P<space>\s*)(?P<unit>{_LETTER}{_FACTOR}(?:{_JOINT}{_FACTOR}){{0,3}})\.?$")
_ONE = re.compile(rf"(?P<before>(?i:square|sq\.?|cubic|cu\.?|平方|立方))?\s*(?P<name>{_ANY})(?P<power>{_POWER})\s*")
_NOUN = "|".join(sorted({*_COUNTED, *_IRREGULAR}, key=lambda word: -len(word)))
_COUNT = re.compile(
    rf"\s*\b(?P<words>(?:(?:{_ADJECTIVES})\s+){{0,4}})(?P<noun>(?:{_NOUN}))(?:e?s)?$"
    rf"|\s*(?P<chinese>{'|'.join(_CHINESE_COUNTED)}){_CHINESE_NOUN}$",
    re.I,
)
_IN_BRACKETS = re.compile(rf"(?<=[0-9\s])\(\s*({_FACTOR})\s*\)$")
_MONEY = re.compile(r"(?P<sign>USD|CNY|RMB|EUR|GBP|¥|€|£|₹)\s*(?=[-0-9.])")
_RATE = re.compile(rf"(?<=[0-9\s])(?:/|per\s)\s*{_FACTOR}$")  # $3/kg
_HUNDREDTHS = re.compile(r"百分之\s*(?=[0-9一二三四五六七八九十])")


def split(text: str) -> tuple[str, Unit | None]:
    """The value and its unit: ``("12", (("cm", 2),))``; None where there is no known unit."""
    if found := _MONEY.match(text):
        rate = _RATE.search(text)
        end = rate.start() if rate else len(text)
        return text[found.end() : end], unit_of(found["sign"] + text[end:])
    if found := _HUNDREDTHS.match(text):
        return text[found.end() :], (("%", 1),)
    text = _IN_BRACKETS.sub(r" \1", text)
    found = _SUFFIX.search(text)
    if found and (value := text[: found.start()].rstrip()):
        simple = found["unit"] in _ALONE.split() and not found["space"]
        unit = None if simple else unit_of(found["unit"])
        if unit is not None:
            return value, unit
    found = _COUNT.search(text)
    if found and (value := text[: found.start()].rstrip()):
        return value, _counted(found)
    return text, None


def _counted(found: re.Match[str]) -> Unit:
    if found["chinese"]:
        return ((f"count {_CHINESE_COUNTED[found['chinese']]}", 1),)
    noun = found["noun"].lower()
    noun = _IRREGULAR.get(noun, noun)
    noun = "thing" if noun in ("object", "item", "piece", "element", "entity") else noun
    return ((" ".join(["count", noun, *sorted(found["words"].lower().split())]), 1),)


@lru_cache(maxsize=1024)
def unit_of(text: str) -> Unit | None:
    """The unit that the whole text names, or None."""
    powers: dict[str, int] = {}
    place, sign, text = 0, 1, text.strip().removesuffix(".") if text.strip() not in _NAMES["in"] else text
    while place < len(text):
        found = _ONE.match(text, place)
        if not found:
            return None
        base = next(base for pattern, base in _TABLE if pattern.fullmatch(found["name"]))
        power = _power(found)
        for name, by in _SPEEDS.get(base, ((base, 1),)):
            powers[name] = powers.get(name, 0) + sign * power * by
        place = found.end()
        if place < len(text):
            joint = re.compile(r"\*|/|(?i:per|an?)\b|p\b|每|", re.I).match(text, place)
            assert joint
            sign = sign if joint[0] in ("*", "") else -1
            place = joint.end()
            while place < len(text) and text[place].isspace():
                place += 1
    return tuple(sorted((name, power) for name, power in powers.items() if power))


def _power(found: re.Match[str]) -> int:
    before, after = (found["before"] or "").lower(), found["power"].strip().lower()
    if before:
        return 3 if before.startswith(("cu", "立")) else 2
    if after in ("squared", "cubed"):
        return 2 if after == "squared" else 3
    digits = re.sub(r"[^-0-9]", "", after)
    return int(digits) if digits else 1


def agree(ours: Unit | None, wanted: Unit | None) -> bool:
    """Whether the two may stand for the same answer: equal, or one absent; ``12 units`` has no unit of its own."""
    if ours is None or wanted is None or ours == wanted:
        return True
    one, other = (unit if len(unit) == 1 else (("", 0),) for unit in (ours, wanted))
    (name, power), (name_wanted, power_wanted) = one[0], other[0]
    if "unit" in (name, name_wanted):
        return power == power_wanted
    if name.startswith("count ") and name_wanted.startswith("count "):
        mine, theirs = name.split()[1:], name_wanted.split()[1:]
        if "thing" not in (mine[0], theirs[0]) and mine[0] != theirs[0]:
            return False
        return not mine[1:] or not theirs[1:] or mine[1:] == theirs[1:]
    return False
