r"""Gold answers with right and wrong answers: what ``strict`` must pay, and what it must never pay.

Of each kind there are more than the few that users have reported, so that a rule is tested and not a case. In an
attack the text holds the right value or letter, but does not state it as its one answer.
"""

from __future__ import annotations

Table = dict[str, tuple[list[str], list[str]]]  # gold -> right, wrong

EQUATIONS: Table = {
    "3x+4y+14=0": (
        ["3x + 4y + 14 = 0", "3x+4y=-14", "-3x-4y-14=0", "6x+8y+28=0", "$3x+4y+14=0$", "0=3x+4y+14", "4y+3x+14=0"]
        + ["The equation of the line is 3x+4y+14=0.", r"\frac{3}{2}x+2y+7=0", "3x＋4y＋14＝0", "3x = -4y - 14", r"y = -\frac{3}{4}x - \frac{7}{2}", "y=-3x/4-7/2", "y = -3/4 x - 7/2", "y=-(3/4)x-7/2"],
        ["3x-y+13=0", "0", "14", "3x+4y+14", "3x+4y-14=0", "4x+3y+14=0", "x+y+14=0", "3x+4y+14>0", "3a+4b+14=0"]
        + ["3x+4y+14≠0", "0=0", "x=0", "3x+4y+14=0 or 3x-4y+14=0", "not 3x+4y+14=0", "3x+4y=14", "y=0", "6x+8y+14=0"],
    ),
    "x+y=5": (
        ["y+x=5", "y = -x + 5", "x + y - 5 = 0", "5 = x+y", "2x+2y=10", "y = 5-x", "x=5-y", r"\(x+y=5\)"],
        ["x-y=5", "5", "x=5", "x+y", "x+y=6", "x+z=5", "xy=5", "2x+y=5", "x+y=5=6", "x+y<5", "x+y≤5"],
    ),
    "(x-1)^2+(y-2)^2=9": (
        ["(x-1)²+(y-2)²=9", "(y-2)^2+(x-1)^2=9", "(x-1)^{2}+(y-2)^{2}-9=0", "x^2+y^2-2x-4y-4=0", "(1-x)^2+(y-2)^2=9"],
        ["9", "3", "(x-1)^2+(y-2)^2=3", "(x+1)^2+(y-2)^2=9", "(x-1)^2+(y-2)^2", "(x-1)^2-(y-2)^2=9", "x^2+y^2=9"],
    ),
    "y=2x+1": (
        ["y = 2x + 1", "2x+1", "2x-y+1=0", "y-1=2x", "y=1+2x", "f=2x+1"][:5],
        ["y=2x-1", "2x", "1", "y=x+1", "y=2", "y = 2x", "x=2y+1", "y>2x+1", "2x+1=0"],
    ),
    "x^2+y^2=4": (["x²+y²=4", "x^{2}+y^{2}=4", "x^2 + y^2 - 4 = 0"], ["4", "x^2+y^2=2", "x+y=2", "x^2-y^2=4", "x^2+y^2=16"]),
    "7": (
        ["x=7", "x = 7.", "7 = x", "3+4=7", "AB = 3 + 4 = 7", "Area = 7", "the length is 7", "∠A = 7", "x_1 = 7", "S=7"],
        ["3x+4=7", "x+7", "x^2=7", "2x=7", "7=3x+4", "2+3=7", "x=3=7", "x+y=7", "x-7=0", "7x", "x=7y", "x>7", "x≥7", "x≠7"]
        + ["x≈7", "|x|=7", "x=7+y", "7<8", "x^7", "7=7x", "x=±7", "x = 7 or x = 3", "x=7, y=3", "x = 7 = 3", "The answer is 3x+4=7", "the equation is x+3 = 7", "The value of x+4 = 7 is x", "The line is y+x=7", "l: x+y=7"],
    ),
    "5": (
        ["x = 5", "AB=5", "8-3=5", "$x=5$", "x = 10/2 = 5", "∠AOB=5", r"\theta=5", "Therefore x = 5"],
        ["8-3x=5", "y^2=5", "2x+5=0", "5=5=6", "x+1=5", "x=5 or 6", "5x=5", "a+b=5", "x/2=5", "sqrt(x)=5", "x!=5"],
    ),
    "x=5": (["5", "x = 5", "5 = x", "x=5.0", "x is 5"], ["y=5", "2x=10", "x-5=0", "x=6", "x>5", "x"]),
    "x>3": (["x > 3", "3 < x", "3<x", "x-3>0", "2x>6", r"x \gt 3"], ["3", "x<3", "x≥3", "x>4", "x=3", "-x>3", "x", "3>x", "x≠3"]),
    "1<x<3": (["1 < x < 3", "3 > x > 1", "3>x>1"], ["1<x", "x<3", "1≤x<3", "1<x≤3", "1<x<4", "2", "1", "3<x<1", "(1,3)"][:8]),
    "x≤2": (["x≤2", r"x\leq 2", r"x \le 2", "x<=2", "2≥x", "2 >= x"], ["x<2", "x≥2", "2", "x=2", "x≤3"]),
}  # fmt: skip

SIZES: Table = {
    r"\frac{1}{2^{98}}": (["2^{-98}", "1/2^98", r"\frac{2}{2^{99}}", "1/(2^98)"], [r"\frac{1}{2^{99}}", "0", "1/2^97", "2^98", "0.0000001"]),
    r"\frac{1}{2004!}": ([r"\frac{2005}{2005!}", "1/2004!"], [r"\frac{1}{2006!}", "0", r"\frac{1}{2005!}", "0.0", "1/2004"]),
    r"\frac{2^{2005}+1}{3 \cdot 2^{2006}}": (
        [r"\frac{1+2^{2005}}{3\times 2^{2006}}", r"\frac{1}{6}+\frac{1}{3\cdot 2^{2006}}"],
        [r"\frac{1}{3 \cdot 2^{2006}}", r"\frac{1}{6}", r"\frac{2^{2005}-1}{3 \cdot 2^{2006}}", r"\frac{2^{2005}}{3 \cdot 2^{2006}}"],
    ),
    "1/3000000": (["1/3000000", r"\frac{1}{3000000}", "1/3,000,000", "0.000000333333333", "2/6000000"], ["0", "0.000000", "1/3000001", "1/300000", "0.0000003", "1/4000000", "0.000001"]),
    "0": (["0", "0.0", "0/5", "x=0", "-0", "zero", "0 cm"], ["1/3000000", "0.0000001", r"\frac{1}{2^{99}}", "10^{-9}", "0x", "0 or 5", "0y"]),
    "10^{-9}": (["10^-9", "0.000000001", r"\frac{1}{10^9}", r"1\times 10^{-9}"], ["0", "10^{-8}", "10^{-10}", "2*10^{-9}"]),
    r"\pi": (["π", "3.141593", "3.14159265", r"\frac{2\pi}{2}", "pi"], ["355/113", "22/7", "3.14", "3.1416", "3", r"\frac{314159265358979}{100000000000000}", "2π", "180"]),
    r"\sqrt{2}": (["√2", "sqrt(2)", "1.414214", "1.41421356", r"\frac{2}{\sqrt{2}}", "2^{1/2}", "√{2}"], ["1.414", "99/70", "2", "-√2", "±√2", r"\sqrt[3]{2}", "1.41421", "√2√2"]),
    r"5\sqrt{2}": (["5√2", "√50", r"\sqrt{50}", "5*sqrt(2)", "7.071068", r"5 \sqrt 2", r"\frac{10}{\sqrt{2}}"], ["5", "2", "7", "√2", "10", "5.2", "52", "5√3", "7.07"]),
    "1/3": (["0.333333", "2/6", r"\frac13", "0.3333333333", r"0.\overline{3}", r"\frac{1}{3}"], ["0.33", "0.3", "3", "1/4", "0.333", "1", "1:3", "0.333334", "33"]),
    "1000000": (["10^6", "1,000,000", "1 000 000", "1e6", r"10^{6}"], ["1000001", "1000000.1", "10^5", "106", "1e5", "999999.9999999"]),
    "3": (["3.0", "3.", "6/2", "√9", "+3", "03", "2.9999999999 "][:6], ["3.0000001", "2.9999999", "3.1", "-3", "3!", "3^2", "3e", "3i", "3-", "33", "3 3", "1/3"]),
    "2.5": ([r"2\frac{1}{2}", "2 1/2", "5/2", "2½", "2.50"], ["2", "2.4", r"2\cdot\frac{1}{2}", "1", "21/2", "2 3/2"]),
    "1": (["1", "2/2", "sin 90°", "5^0", "1.0"], [r"2\frac{1}{2}", "0.9999999", "1.0000001", "99999999/100000000", "i", "e", "-1", "x/x", "I"]),
    r"\pi+10^{-15}": ([r"10^{-15}+\pi"], ["π", r"\pi+10^{-16}", "3.141593", r"\pi-10^{-15}"][:2] + [r"\pi-10^{-15}"]),
    "10^{100}+1": (["1+10^{100}"], ["10^{100}", "10^{100}+2", "10^{99}"]),
    r"\sqrt{10^{20}+1}": ([r"\sqrt{1+10^{20}}"], ["10^{10}", "10000000000", r"\sqrt{10^{20}}"]),
    "0.333333": (["1/3", r"\frac{1}{3}", "0.3333330"], ["1/4", "0.33", "0.3333333", "0.333334"]),
    "0.5": (["1/2", "2/4", ".5"], ["0.5000001", "0.4999999", "500001/1000000"]),
    "120": (["5!", "120", "120.0"], ["5", "120!", "12", "119"]),
    "1.5e8": (["1.5*10^8", r"1.5\times10^{8}", "150000000", "150,000,000"], ["1.5", "1.5*10^7", "15", "1.5e9", "1.5*108"]),
}  # fmt: skip

_WRONG_SENTENCES = [  # a closed list of forms: none of these states ¤
    *("cannot be ¤", "¤ is wrong", "anything without ¤", "greater ¤", "not ¤", "It is not ¤", "never ¤", "no ¤", "¤?"),
    *(
        "The answer is not ¤",
        "anything but ¤",
        "¤ is incorrect",
        "¤ is false",
        "other than ¤",
        "less than ¤",
        "¤ or more",
    ),
    *("more than ¤", "at least ¤", "at most ¤", "over ¤", "under ¤", "up to ¤", "about ¤", "around ¤", "roughly ¤"),
    *("approximately ¤", "almost ¤", "nearly ¤", "maybe ¤", "perhaps ¤", "probably ¤", "possibly ¤", "might be ¤"),
    *("could be ¤", "may be ¤", "can be ¤", "it can't be ¤", "isn't ¤", "the opposite of ¤", "minus ¤", "half of ¤"),
    *("double ¤", "¤ squared", "¤ cubed", "twice ¤", "¤ dozen", "¤ million", "¤ hundred", "the square root of ¤"),
    *("¤ or 6", "6 or ¤", "¤, 6", "6, ¤", "¤ and 6", "¤; 6", "¤/6", "¤ 6", "¤-6", "¤ to 6", "between ¤ and 6", "¤~6"),
    *(
        "¤±1",
        "±¤",
        "(¤)(6)",
        "¤|6",
        "from ¤",
        "until ¤",
        "before ¤",
        "after ¤",
        "¤+",
        "¤-",
        "¤!!",
        "~¤",
        "≈¤",
        ">¤",
        "<¤",
    ),
    *("≥¤", "≤¤", "≠¤", "!¤", "¬¤", "the number before ¤", "the number after ¤", "¤ is too small", "¤ is too large"),
    *(
        "I doubt it is ¤",
        "Nobody would say ¤",
        "It is false that the answer is ¤",
        "Not at all ¤",
        "avoid ¤",
        "except ¤",
    ),
    *(
        "the wrong answer is ¤",
        "the answer is far from ¤",
        "the answer is ¤ minus 1",
        "the answer is ¤, not",
        "¤... no",
    ),
    *(
        "the answer is ¤. No, 6",
        "¤, wait, 6",
        "¤\n6",
        "6\n¤",
        "is it ¤",
        "if ¤",
        "¤ if x > 0",
        "unless ¤",
        "¤ unless 6",
    ),
    *(r"\boxed{¤} or \boxed{6}", r"\boxed{6}\boxed{¤}", r"not \boxed{¤}", r"\boxed{¤} is wrong", r"\boxed{\neg ¤}"),
    *(
        "<answer>¤",
        "¤</think>",
        "answer(¤)!",
        "don't say ¤",
        "the reverse of ¤",
        "¤ times 6",
        "¤ plus 6",
        "¤ percent of 6",
    ),
    *(
        "不是¤",
        "答案不是¤",
        "¤是错的",
        "大于¤",
        "小于¤",
        "至少¤",
        "约¤",
        "大约¤",
        "¤或6",
        "¤左右",
        "不到¤",
        "除了¤",
        "¤以上",
        "非¤",
    ),
    *("fail ¤", "neither ¤", "¤ nor 6", "1 to ¤", "¤ in base 6", "¤ mod 6", "[1, ¤]", "(¤, 6)", "{¤, 6}", r"\{¤, 6\}"),
    *(
        "¤ of 6",
        "¤ out of 6",
        "¤:6",
        "¤ per 6",
        "¤ choose 2",
        "¤'",
        '¤"',
        "¤\u202e",
        "\u202e¤",
        "#¤#6",
        "¤ // 6",
        "¤%6",
    ),
    *("the complement of ¤", "the supplement of ¤", "the inverse of ¤", "the negative of ¤", "the sum of ¤ and 6"),
    *("I refuse to say ¤", "the answer must not be ¤", "the answer would be ¤ if true", "¤ = wrong", "x ∈ ¤", "lim ¤"),
]
_RIGHT_SENTENCES = [
    *("¤", " ¤ ", "¤.", "The answer is ¤", "The answer is ¤.", "the answer is: ¤", "Answer: ¤", "answer ¤", "ANSWER: ¤"),
    *("So the answer is ¤.", "Therefore, the answer is ¤.", "Thus ¤", "Hence, ¤.", "So, ¤", "It is ¤", "It's ¤", "is ¤"[3:]),
    *("The final answer is ¤.", "The correct answer is ¤", "My answer is ¤", "The result is ¤.", "The value is ¤", "x = ¤"),
    *("The value of x is ¤.", "x equals ¤", "x is equal to ¤", "We get ¤", "We get x = ¤", "I get ¤", "This gives ¤."),
    *("The answer would be ¤", "The answer should be ¤", "The answer must be ¤", "the answer is equal to ¤", "It equals ¤"),
    *("¤ is the answer", "¤ is the correct answer.", "¤ is correct", "In total, ¤", "The total is ¤", "Final answer: ¤"),
    *("**Answer:** ¤", "**Answer: ¤**", "**¤**", "# ¤", "### Answer\n¤", "## Final Answer\n\n**¤**", "`¤`", "__¤__", "*¤*"),
    *(r"\boxed{¤}", r"The result is \boxed{¤}.", r"So the answer is $\boxed{¤}$.", r"$¤$", r"\(¤\)", r"\[¤\]", "$$¤$$"),
    *(r"\text{The answer is } ¤", r"**\boxed{¤}**", r"\boxed{\text{¤}}", r"Therefore, $x = \boxed{¤}$", r"\textbf{¤}", '"¤"'),
    *("¤。", "答案是¤", "答案是¤。", "答案：¤", "答案为 ¤", "所以答案是¤", "因此，答案是¤。", "最终答案：¤", "结果是¤", "等于¤"),
    *("正确答案是¤", "故答案为¤", "x=¤", "x＝¤", "所以，¤", "即¤", "\u200b¤", "¤\ufeff", "(¤)", "The answer is ¤!"[:-1]),
]  # fmt: skip
SENTENCES: Table = {
    "5": (
        [form.replace("¤", "5") for form in _RIGHT_SENTENCES]
        + ["There are 5 objects.", "There are 5 cubes in total", "5 objects", "5 cubes are left", "5 in total", "I count 5 cubes"]
        + ["The number of objects left is 5.", "five", "Five.", "The answer is five", "five cubes", "There are five of them"][:5]
        + ["The area of the triangle is 5", "The length of AB is 5 cm.", "The radius of the circle is 5", "AB is 5", "五", "一共有5个"]
        + ["The measure of angle 1 is 5°", "There are 5 objects left.", "5 red cubes", "5 people", "共有5个物体", "还剩5个", "面积是5"],
        [form.replace("¤", "5") for form in _WRONG_SENTENCES]
        + ["", "five or six", "fifty", "fifteen", "twenty-five", "V", "five hundred", "half a ten", "55", "6", "-5", "negative five"]
        + ["5 cubes and 6 spheres", "no cubes, 5 spheres", "5 objects in row 7", "5.5", "0x5", "5_000", "5 000", "fivefold", "6 (not 5)"]
        + ["٥", "𝟓𝟓", "Б5", "5" * 600, "5 " * 200, "five five", "5cm or 6cm", "1 2 3 4 5 6 7 8 9", "the answer is one of 4, 5, 6", "5 is one", "There were 5 cubes", "The original number is 5", "it was 5", "The given angle is 5"],
    ),
    "12.5": ([form.replace("¤", "12.5") for form in _RIGHT_SENTENCES], [form.replace("¤", "12.5") for form in _WRONG_SENTENCES]),
    "21": (["twenty-one", "Twenty one", "twenty-one objects", "二十一", "21", "twentyone", "The answer is twenty-one."], ["twenty", "one", "twelve", "12", "twenty-two", "二十", "twenty, one", "twenty or one"]),
    "100": (["one hundred", "a hundred", "100", "一百"], ["hundred and one", "ten", "one", "one hundred and one", "hundreds"]),
    "0": (["zero", "0 objects", "零", "none"[:0] + "0."], ["no", "nothing", "none of 0", "nonzero", "10"]),
    "-5": (["-5", "−5", "–5", "－5", "minus five", "negative 5", "x = -5", "-5.0", "负5", "-10/2"], ["5", "+5", "--5", "±5", "5-", "(5)", "not -5", "- 6"]),
}  # fmt: skip

UNITS: Table = {
    "12cm": (
        ["12", "12 cm", "12cm.", "12 centimeters", "12 centimetres", r"12\text{ cm}", r"12\,\mathrm{cm}", "12 厘米", "12.0 cm", "AB = 12 cm", "The length is 12 cm.", "12\u2009cm", "12\u00a0cm", "１２ｃｍ", "12CM", "twelve cm", "12 units"],
        ["12 m", "12 mm", "12 km", "12 cm^2", "12 cm²", "12°", "12 s", "12%", "120 mm", "12 inches", "12 kg", "12 cm/s", "12 cubes", "$12", "12 square cm", "12厘", "12平方厘米", "12 米", "0.12 m", "12 degrees", "12 cm or 13 cm", "13 cm", "12 L", "12 cm 3 mm"],
    ),
    "65°": (
        ["65", "65º", "65˚", "65∘", r"65^\circ", r"65^{\circ}", r"65\degree", "65 degrees", "65 degree", "65度", "65 °", "∠A = 65°", "65.0°", "angle A is 65 degrees", "６５°", "65⁰", "The measure of angle A is 65°.", "65 deg", r"$65^{\circ}$"],
        ["65 cm", "65 m", "65 rad", "65%", "65 degrees Celsius", "65℃", "65 radians", "65'", "650", "6.5°", "65 or 115°", "115°", "-65°", "65° or 115°", "65 minutes", "65°F"],
    ),
    "50海里": (["50", "50 海里", "50 nautical miles", "五十海里", "50 nmi"], ["50 km", "50公里", "50 miles", "50里", "50米", "5海里", "50英里"]),
    "65度": (["65", "65°", "65 degrees", "65度。", "六十五度"], ["65 cm", "65米", "65%", "56度", "65摄氏度"]),
    r"50\%": (["50%", "50", "50 percent", "50 per cent", "0.5", "1/2", "５０％", "百分之五十", "百分之50", "fifty percent", r"50 \%"], ["5%", "50 cm", "0.5%", "5000", "50 degrees", "500%", "0.05", "2", "50‰", "51%"]),
    "0.5": (["50%", "1/2", "0.50", ".5", "½", "50 percent"], ["50", "5%", "0.5%", "5", "0.05", "500%"]),
    "60 km/h": (["60", "60km/h", "60 kph", "60 kilometers per hour", "60 km per hour", "60千米/时", "60 千米每小时", "60公里/小时", r"60\text{ km/h}", r"60 km\cdot h^{-1}", "60 km/hr"], ["60 m/s", "60 km", "60 mph", "60 h", "60 miles per hour", "60 km/s", "60 km·h", "60 km/min", "6 km/h", "60 h/km", "60米/秒"]),
    "9.8 m/s^2": (["9.8", "9.8 m/s²", "9.8m/s^{2}", "9.8 meters per second squared", "9.8 N/kg"[:3]], ["9.8 m/s", "9.8 m", "9.8 N", "9.8 m^2/s", "9.8 s^2/m"]),
    "12 g/cm³": (["12", "12 g/cm^3", "12 grams per cubic centimeter", "12克/立方厘米"], ["12 g", "12 kg/m³", "12 g/cm²", "12 cm³", "12 g/m³"]),
    "27cm^{2}": (["27", "27 cm²", "27 square centimeters", "27 sq cm", "27 cm2", "27平方厘米", "27 ㎠", "27 cm squared", r"27\text{ cm}^2", "27 square units"], ["27 cm", "27 cm³", "27 m²", "27²", "27 cubic cm", "27厘米", "27^2", "27 units"]),
    "3 litres": (["3", "3 L", "3 liters", "3升", "3 l", "three litres"], ["3 mL", "3 kg", "3 m", "3毫升", "3 gallons", "3000 mL"]),
    "$5": (["5", "$5", r"\$5", "5 dollars", "US$5", "5美元", "USD 5", "five dollars", "5.00 dollars", "$5.00"], ["€5", "5 euros", "5 cents", "¥5", "5元", "£5", "$50", "5%", "500 cents"]),
    "5元": (["5", "¥5", "￥5", "5 yuan", "5 RMB", "五元", "5块", "5人民币"], ["$5", "5角", "5美元", "5个", "5 euros", "50角"]),
    "€20": (["20", "20 euros", "20€", "€20", "€ 20"], ["$20", "20 pounds", "£20", "20元"]),
    "5个": (["5", "5 objects", "5", "五个", "5件", "5 items", "5个物体", "five"], ["5元", "5 cm", "5双", "5对", "5打", "6个", "5米"]),
    "5 people": (["5", "5人", "5 persons", "five people", "5 people", "5个人"][:5], ["5 cars", "5 km", "5元", "5 years"]),
    "3 cubes": (["3", "3 objects", "three cubes", "3 cubes.", "There are 3 cubes", "3 red cubes"], ["3 spheres", "3 cm", "3 red", "4 cubes", "3 cubic"]),
    "5": (["5 s", "5 m", "5 kg", "5 units", "5 hours", "5 L", "5 cm^2", "5 km/h", "5 meters", "5 seconds", "5元", "5个", "5厘米", "5°"], ["5x", "5 foo", "5 wrongs", "5 no", "5 dozen", "5k", "5 pairs", "5 of them not"]),
    "9米": (["9", "9 m", "9 meters", "9米。", "9.0米", "九米"], ["9 cm", "9厘米", "9平方米", "9 miles", "9分米"]),
    "4πcm": (["4π", r"4\pi", "4π cm", "4*pi", r"4\pi\text{ cm}", "12.566371"], ["4", "4 cm", "π", "12.56", "4π m", "4π cm²", "8π", "4pi/2"]),
    "2√{15}米": (["2√15", r"2\sqrt{15}", "2√15 m", r"\sqrt{60}", "2*sqrt(15)"], ["2", "15", "√15", "2√15 cm", "30"]),
    "20°C": (["20", "20 °C", "20℃", "20 degrees Celsius", "20摄氏度"], ["20°F", "20 K", "20°", "20 degrees"][:3]),
    "2小时": (["2", "2 hours", "2 h", "两小时", "2个小时"], ["2分钟", "2 minutes", "2天", "2 s"]),
    "5 pizzas": (["5", "5 pizzas", "five pizzas", "5 pizza", "There are 5 pizzas.", "5 objects"], ["5 cakes", "5 cm", "6 pizzas", "no pizzas", "5 dozen pizzas", "5 pizzas or 6", "5 $"]),
    "3 dozen": (["3 dozen"], ["3", "36", "dozen"]),
    "30 years old": (["30", "30岁", "30 years old"], ["30 cm", "30 km", "30%"]),
    "8 ft": (["8", "8 feet", "8 foot", "8英尺"], ["8 in", "8 inches", "8 m", "8 yards"]),
    "100 N": (["100", "100 newtons", "100牛"], ["100 J", "100 kg", "100 Pa", "100 kN"]),
}  # fmt: skip

WRITING: Table = {
    "1000": (["1 000", "1,000", "1\u2009000", "1\u00a0000", "1\u202f000", r"1\,000", "1{,}000", "１０００", "１，０００", "1000.0", "10^3", r"10^{3}"], ["1 00", "1,00", "10 00", "1.000", "1 000 0", "1, 000, 0", "1 0 0 0", "1|000", "100", "1 000 000", "000 1"]),
    "1234567.5": (["1 234 567.5", "1,234,567.5", "1234567.50"], ["1 234 567", "1,234,5675", "1.234.567,5"]),
    "65": (["６５", "65．", "65。", "６５．０", "**65**", "\\boxed{65}", "sixty-five", "65\u3000", "六十五", "\u200b65\u200b"], ["6 5", "56", "6.5", "65 65", "6,5", "65,6", "⑥⑤6", "6\u202e5"]),
    "-3": (["−3", "－3", "‒3", "–3", "—3", "-3.", "﹣3", "x = −3"], ["3", "3−", "−−3", "−33", "+3"]),
    "0.75": (["¾", "3/4", "３／４", "0．75", ".75", r"\tfrac34", r"\dfrac{3}{4}", "75%", "0.750"], ["75", "0.7", "3", "4/3", "7.5", "3 4", "34"]),
    r"\frac{4}{3}": (["4/3", r"\frac43", "1 1/3", r"1\frac{1}{3}", "4÷3", "1.333333", r"\frac{4.0}{3.0}", "1⅓", "8/6"], ["3/4", "1.3", "1.33", "4", "43", "1/3", "-4/3", "4/3x"]),
    "(1,2)": (["(1, 2)", "（1，2）", r"\left(1,2\right)", "$(1,2)$", "(1.0, 2)", "The answer is (1,2)", "(2/2, 2)"], ["(2,1)", "1,2", "1", "2", "12", "[1,2]", "(1,2,3)", "(1,2]", "{1,2}", "(-1,2)", "1.2", r"\{1,2\}", "(1,2) or (2,1)"]),
    r"\{1,2\}": ([r"\{2, 1\}", r"\{1, 2\}", r"$\{1,2\}$"], ["1", "2", "(1,2)", r"\{1\}", r"\{1,2,3\}", r"\{1,1\}", "[1,2]", r"\{1,3\}"]),
    "[1,2)": (["[1, 2)", r"\left[1,2\right)"], ["(1,2)", "[1,2]", "1", "(1,2]", "[2,1)"]),
    "2 or 3": (["2 or 3", "3 or 2", "2 and 3", "x=2 or x=3"][:3], ["2", "3", "2 or 4", "23", "5", "2 or 3 or 4", "2, 2"]),
    "x=2, y=3": (["y=3, x=2", "x=2 and y=3", "x = 2, y = 3."], ["x=3, y=2", "3, 2", "x=2", "(2,3)", "x=2, y=3, z=4", "x=2 or x=3"]),
    "x=2 or x=3": (["x=3 or x=2", "x=2, x=3", "x = 2 and x = 3"], ["x=2", "x=3", "x=2 or x=4", "2", "y=2 or y=3", "x=2 or x=2"]),
    "±5": (["±5", r"\pm 5", "± 5"], ["5", "-5", "±6", "+5", "5±"]),
    "x+1": (["1+x", "x + 1", "$x+1$", "(x+1)", "(x^2+x)/x"[:0] + "x+1.0"], ["x", "1", "x-1", "y+1", "x+2", "2x+1", "x1", "x+1=0", "2"]),
    "2x": (["2 x", "2*x", r"2\cdot x", "x+x", "x*2"], ["2", "x", "x^2", "2y", "2+x", "2/x", "2x=0"]),
    "isosceles": (["isosceles", "Isosceles", "ISOSCELES.", "The answer is isosceles", r"\text{isosceles}", "**isosceles**"], ["not isosceles", "equilateral", "isosceles or equilateral", "", "scalene"]),
}  # fmt: skip

QUESTION = "Find x.\nChoices:\nA. 10\nB. 12\nC. 14\nD. 16"
CHOICES: Table = {
    "B": (
        ["B", "b", "(B)", "B.", "B)", "B:", " B ", "(b)", "B. 12", "B) 12", "(B) 12", "B: 12", "B - 12", "B – 12", "B — 12", "B, 12", "B (12)", "B 12"]
        + ["[B]", '"B"', "'B'", "“B”", "「B」", "【B】", "{B}", "**B**", "**B**. 12", "**B.** 12", "**B. 12**", "**(B)**", "`B`", "# B", "*B*", "__B__"]
        + [r"\textbf{B}", r"\text{B}", r"\boxed{B}", r"\boxed{\text{B}}", "$B$", r"$\boxed{B}$", r"\(B\)", r"\mathrm{B}", r"\mathbf{(B)}", r"\boxed{B. 12}"]
        + ["Answer: B", "**Answer: B**", "**Answer:** B", "Answer B", "answer: b", "The answer is B", "The answer is B.", "The answer is (B).", "The answer is **B**"]
        + ["The correct answer is B. 12", "The correct option is B", "The right choice is B", "My answer is B", "Final answer: B", "The final answer is B", "The answer is option B"]
        + ["I choose B", "I choose B.", "I select B", "I pick option B", "I would choose B", "I choose option (B)", "Option B", "option b", "Choice B", "Option B.", "Option B: 12", "Choose B"]
        + ["Therefore, B", "So B", "Thus, B.", "Hence B", "Therefore, the answer is B.", "So the answer would be B", "It is B", "It's B", "B is correct", "B is correct.", "B is the answer"]
        + ["B is the correct answer", "B is right", "Option B is correct", "B is the correct option.", "The answer must be B", "The answer should be B", "So, the correct answer is B.", "### Answer: B"]
        + ["B, because the angles are equal", "B because x = 12", "B, because 5 + 7 = 12", "B, since the triangle is isosceles", "B. Because the sides are equal.", "B，因为两角相等"]
        + ["Ｂ", "（B）", "（Ｂ）", "B．", "B。", "B、12", "B．12", "答案是B", "答案：B", "答案为B。", "选B", "选 B", "故选B", "故选：B", "故选 B。", "答案选B", "选择B", "正确答案是B", "所以选B", "因此，答案是B。", "应选B", "B选项"[:0] + "选项B", "选项是B"]
        + ["AB = 3, so the correct answer is B.", "The result is \\boxed{B}.", "B\u200b", "B. 12.0", "B. x = 12"],
        ["A", "C", "D", "12", "", "B or C", "A or B", "B/C", "A/B", "A, B", "B, C", "BC", "A B C D", "ABCD", "not B", "Not B.", "B is wrong", "B is incorrect", "B is not correct"]
        + ["The answer is not B", "B?", "B or D", "either B or C", "neither B", "anything but B", "B is false", "It isn't B", "cannot be B", "all except B", "B, C or D", "B and C", "maybe B"]
        + ["perhaps B", "B, or C", "B. 12 or C. 14", "A. 10 B. 12 C. 14 D. 16", "A. 10\nB. 12\nC. 14\nD. 16", "B. 14", "B. 13", "(B) 10", "A. B", "B. C", "B, no, C", "B, because C", "C, because B is wrong"]
        + ["B, because I cannot decide; C", "B, but C is also right", "B. wrong", "B. is not the answer", "B. no", "B - C", "not (B)", "B is the wrong answer", "B is never correct", "I do not choose B", "I reject B"]
        + ["\u0392", "\u0412", "ß", "8", "B!C", "B\nC", "BB", "Bob", "Because", "Be", "B B", "B|C", "B~C", "B+C", "B=C", "(A)(B)", "(B)(C)", "[A][B]", r"\boxed{A} \boxed{B}", "不选B", "答案不是B", "B或C", "不是B", "B错误", "非B", "B不对"]
        + ["B is better than C", "A triangle", "the second", "option two", "B, unless C", "Between A and B", "B if x > 0, else C", "B\x00", "\u202eB", "B > C", "B. twelve thousand", "B, D", "b. c. d.", "B%", "B12", "-B", "~B", "!B", "¬B", "B-"]
        + ["B. because I was told so. The answer is C", "The answer is B. The answer is C", "B (or C)", "B, maybe", "B, probably", "Probably B", "I guess not B", "1. B 2. C", "wrong: B", "A is B", "The answer is A, B is 12", "A answer B", "B) no", "B: or", "B 12 A", "B, 14 D", "B = of", "B: is not"],
    ),
    "AC": (
        ["AC", "A, C", "A,C", "C, A", "A and C", "A、C", "A C", "(A), (C)", "(A) and (C)", "CA", "The answer is A and C", "A, C.", "**A, C**", "A & C", "答案是A、C", "A和C", "选AC", "a, c", "A; C", "The answer is AC", "ＡＣ", "A，C"],
        ["A", "C", "A or C", "A, B, C", "ABC", "AB", "A, D", "not A, C", "A, not C", "ABCD", "A/C", "A或C", "A and C are wrong", "A, C or D", "AAC", "B", "A but not C", "A, C, A"],
    ),
    "B. 12": (["B", "B. 12", "(B)", "b", "B. 12.0", "The answer is B. 12"], ["12", "C", "B. 14", "A. 12", "C. 12", "B or C"]),
    "(B)": (["B", "(B)", "b"], ["A", "C", "not B"]),
    "Option B": (["B", "Option B", "(B) 12"], ["A", "option C"]),
    "b": (["B", "b", "(b)"], ["a", "C"]),
    "A": (["A", "a", "(A)", "The answer is A", "A. 10", "答案是A", "A, because it is given"], ["A triangle", "a triangle", "an", "A or B", "A. 12", "B"]),
    "A, B and D": (["ABD", "A, B, D", "D, B and A", "A、B、D", "BAD"], ["AB", "ABCD", "A, B or D", "A", "bad"]),
}  # fmt: skip
