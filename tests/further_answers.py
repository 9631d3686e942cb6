"""More gold answers with right and wrong answers, in the forms of ``tests/answers.py``."""

from __future__ import annotations

Table = dict[str, tuple[list[str], list[str]]]  # gold -> right, wrong

VALUES: Table = {
    '5': (
        [
            'The number of objects is 5', 'The number of cubes left is 5.', 'There are five objects left.', 'There are 5 objects remaining.',
            'There are 5 items in the image', 'Number of objects: 5', 'Total: 5', 'Total = 5', 'Total number of objects: 5', 'total of 5',
            'The count is 5', 'The answer is 5 objects.', '5 objects in total.', 'So there are 5 objects.',
            'Thus, there are 5 objects left in total.', 'We have 5 objects left.', '5 things', '5 spheres', '5 small cubes',
            '5 metallic objects', 'The total is 5 objects.', '5 remaining', '5 units', '5 square units', '5 sq. units', '5 cubic units',
            'The answer is **5**.', 'The answer is $5$.', 'The answer is \\(5\\).', 'The answer is \\boxed{5}.',
            'Hence, the answer is \\boxed{5}', 'Answer: \\boxed{5}', '$\\boxed{5}$.', 'So $x=\\boxed{5}$.',
            'Therefore the length of AB is \\boxed{5} cm.', 'Therefore, the area is $\\boxed{5}$ square units.', 'We find that x = 5.',
            'Thus x = 5.', '∴ x = 5', '\\therefore x=5', 'x = 5.', '$x=5$.', '\\(x = 5\\)', 'x=5.0', 'x equals 5.', 'length = 5',
            'Length: 5', 'AB = 5 cm', 'AB=5cm', 'BC = 5.', 'The side length is 5', 'The length of side AB is 5',
            'The length of the side is 5.', 'The radius is 5.', 'r = 5', 'The diameter of the circle is 5.',
            'The height of the tower is 5 m', 'The height of the tree is 5 meters.', 'The distance between A and B is 5',
            'The distance from A to B is 5.', 'The perimeter of the rectangle is 5', 'The area of the shaded region is 5',
            'The area of the square is 5', 'the area of ABCD is 5', 'The area of parallelogram ABCD is 5', 'The area of △ABC is 5',
            'The value of y is 5', 'The value of x + y is 5', 'The value of the expression is 5', 'the sum is 5',
            'The sum of the angles is 5', 'The probability is 5', 'the slope of the line is 5', 'The ratio is 5',
            'The ratio of AB to CD is 5', 'The value of sin A is 5', 'sin A = 5', 'sinA = 5', '\\sin A = 5', 'tan B = 5', 'cos∠ABC = 5',
            'tan(A) = 5', 'S = 5', 'S_{△ABC} = 5', 'k = 5', 'n=5', 'a = 5', 'a=5,', '5 .', '5．', '５', '5 。', '5\u3000', "'5'", '“5”', '「5」',
            '【5】', '_5_', '***5***', '# 5', '## Answer: 5', '### Final Answer: 5', '**Final Answer**\n5', '**Final Answer:**\n\n5',
            'Final answer\n\n5', 'Answer:\n5', 'Answer：5', 'Ans: 5', 'ANSWER: 5', 'The Answer Is 5', 'THE ANSWER IS 5',
            'the correct answer is 5', 'The correct value is 5', 'The required value is 5', 'The required answer is 5', 'The solution is 5',
            'The solution is x = 5', 'The solution is $x = 5$', 'Solution: x = 5', 'The final result is 5.', 'Final result: 5',
            'The result would be 5', 'The result equals 5', 'It is equal to 5', "it's 5", 'That is 5', 'which gives 5', 'We get 5.',
            'This gives x = 5.', 'So the value of x is 5.', 'Hence x is equal to 5', 'Therefore, x equals 5', 'So, the length of BC is 5.',
            'Thus, the length of BC is 5 units.', 'So the missing side is 5', '+5', '5.00', '5.', '05', '10/2', '\\frac{10}{2}',
            '\\frac{5}{1}', '\\sqrt{25}', '√25', '2+3', '答：5', '答:5个', '答案：5个', '答案是：5', '答案是 5', '答案为：5', '最终答案是5', '最后答案为5', '结果为5',
            '结果是：5', '所以x=5', '因此x=5', '故x=5', '则x=5', '∴x=5', 'x的值是5', 'x的值为5', 'AB的长是5', 'AB的长度为5', 'AB=5', '线段AB的长为5', '三角形ABC的面积是5',
            '△ABC的面积为5', '圆的半径为5', '∠A的度数是5', '一共有5个物体', '共5个', '总共有5个', '有5个', '还剩5个', '剩下5个物体', '图中有5个物体', '图中共有5个', '五个物体', '5个球', '数量是5',
            '数量为5个', '个数是5', '总数是5', '5',
        ],
        [
            'five or so', '5ish', '5 at most', '5 maximum', 'no more than 5', 'only if 5', '5 is out', '5 is impossible', '5 does not work',
            "5 isn't it", 'excluding 5', '5 excluded', 'Certainly not 5', '5 is a distractor', "I would say 5 but it's 6", '5 (wrong)',
            '5 [not the answer]', '5, or maybe 6', '5 -> 6', '5 => wrong', '5…', '...5', '5/5', '5^2', '\\sqrt{5}', '1/5', '5-', 'smaller 5',
            'bigger than 5', '5 to 5.5', '\\{5\\}', '(5,)', '5 5', '5, 5', '5 and 5', 'x5', '5x', 'a5', '5 a', '5 I', '5 i', '#5', 'No. 5',
            'No 5', '№5', '5th', 'fifth', '5-fold', '5 mod 7', 'log 5', 'f(5)', '{5', '5}', '(5', '5)', '5|', '0b101', '0x5', '5e1', '5e',
            'V', 'Ⅴ', '5\u20e3', '５５', '5́', '5\u2044 1', '5 percent less', '5 cm less', '5 cm wrong', 'minus 5 plus 10', '10 minus 5',
            'x = 5 or x = -5', 'x ∈ {5}', 'x → 5', 'x ≥ 5', '5 ≤ x', 'x := 6, not 5', 'the answer is 6; 5 is wrong', 'If 6 then 5',
            'A: 5, B: 6', '5 (A), 6 (B)', '5\n\n6', '5. 6', '5.6', '1. 5', '- 5', '* 5', '\u2022 5', '5 = 6', 'x=5=y+1', '3+3=5', '2+2=5',
            'x + y = 5', '5 = 5x', '\\boxed{5} is incorrect', '\\boxed{5, 6}', '\\boxed{5}\\boxed{5}', '\\boxed{6} \\boxed{5}',
            '\\text{not } 5', '\\cancel{5}', '\\not 5', '\\sim 5', '\\overline{5}', '~~5~~', '5~~', '<s>5</s>', '<!-- 5 -->', '&#53;',
            '\\u0035', '5\\', '5//', '5;6', '5 vs 6', '5 | 6', '5,6', '5，6', '5、6', '5～6', '5至6', '五六', '五十', '十五', '第五', '五分之一', '5分之1',
            '半5', '5倍', '5万', '5百', '5多', '5余', '近5', '超过5', '5以下', '少于5个', '没有5个', '不足5', '5?', '可能是5', '也许5', '应该不是5', '5吗',
        ],
    ),
    '65°': (
        [
            '65 ° ', '65˚', '65\u2218', '65\u25e6', '65゜', '65ᵒ', '65 deg', '65 degs', '65degrees', '65 Degrees', '65^\\circ', '65^{\u2218}',
            '65\\textdegree', '65\\degree ', '65{}^\\circ', '65{^\\circ}', '$65^\\circ$.', '∠A=65°', '∠A = 65', '∠1 = 65°', '∠1=65度',
            'angle A = 65°', 'Angle A is 65°', 'The angle is 65°.', 'The angle A is 65°', 'Angle ABC measures 65°',
            'The measure of angle ABC is 65 degrees', 'The size of angle 2 is 65°', 'angle 2 is 65°', 'Angle 2 = 65',
            'm\\angle A = 65^\\circ', '\\angle ABC = 65^{\\circ}', '∠ABC的度数是65°', '∠ABC的度数为65度', '度数是65°', '角度为65°', '六十五度', '65.00°',
            'x = 65°', 'The degree of angle ABC is 65°.', 'the degree of ∠ABC is 65',
        ],
        ['65 grad', '65 percent', '65 π', '65 arcmin'],
    ),
    '-5': (
        [
            '−5', '–5', '—5', '－5', '﹣5', '\u20105', '\u20115', '-5.0', '$-5$', '\\boxed{-5}', 'x=-5', 'x = −5', 'minus 5', 'negative five',
            '-５', '负5', '负五', 'The answer is −5.', '−5 cm', '- 5',
        ],
        [],
    ),
    '12 m²': (
        [
            '12', '12 m^2', '12m2', '12 square meters', '12 sq m', '12 sq. m', '12平方米', '12 ㎡', '12 m^{2}', '12 meters squared',
            '12 square metres', '12 square m',
        ],
        [],
    ),
    '45 km': (
        ['45', '45km', '45 kilometers', '45公里', '45千米', '45 kilometres', '45 Km'],
        [],
    ),
    '20%': (
        ['20', '20%', '20 %', '20\\%', '20 percent', '20 per cent', '百分之二十', '0.2', '1/5', '20％'],
        [],
    ),
    '3.5 L': (
        ['3.5', '3.5 litres', '3.5 liters', '3.5升', '3.5 l', '3.5L'],
        [],
    ),
    '250 mL': (
        ['250', '250ml', '250 millilitres', '250毫升'],
        [],
    ),
    '15 dollars': (
        ['15', '$15', '\\$15', '15 USD', '$15.00', '15 dollars.', '15美元'],
        [],
    ),
    '15元': (
        ['15', '15 yuan', '¥15', '￥15', '15 RMB', '15块钱'],
        [],
    ),
    '8 people': (
        ['8', '8 persons', '8人', '8 people.', 'eight people', 'There are 8 people.'],
        [],
    ),
    '8个苹果': (
        ['8', '8 apples', '8个', '八个苹果'],
        [],
    ),
    '8 apples': (
        ['8', 'eight', '8个', '8 apples', '8个苹果'],
        [],
    ),
    '40只': (
        ['40'],
        [],
    ),
    '72 km/h': (
        ['72', '72km/h', '72千米/小时', '72 km / h', '72 kilometres per hour', '72公里每小时', '72 km h^{-1}', '72 kmph'],
        [],
    ),
    '5 m/s': (
        ['5', '5 m/s.', '5米/秒', '5 meters per second', '5 m·s^{-1}', '5 m\xb7s\u207b\xb9', '5米每秒'],
        [],
    ),
    '30 years': (
        ['30', '30 years', '30年'],
        [],
    ),
    '1 200': (
        ['1200', '1,200', '1 200'],
        [],
    ),
    '1,200 m': (
        ['1200', '1 200 m', '1200米'],
        [],
    ),
    '3x+4y+14=0': (
        [
            '3x+4y+14=0.', 'The line is 3x+4y+14=0', 'the equation is 3x+4y+14=0', '直线方程为3x+4y+14=0', '方程是3x+4y+14=0', '3x + 4y = −14',
            'l: 3x+4y+14=0', 'y = -0.75x - 3.5', 'x = -\\frac{4}{3}y - \\frac{14}{3}', '-(3x+4y+14)=0', '$3x + 4y + 14 = 0$.',
            '\\boxed{3x+4y+14=0}', '0 = 3x+4y+14', '3 x + 4 y + 14 = 0', '3*x+4*y+14=0', '3\\cdot x+4\\cdot y+14=0',
        ],
        [],
    ),
    '3 hours': (
        ['3 h', 'three hours'],
        ['3 minutes', '180 min'],
    ),
    '3小时': (
        ['3 hours'],
        [],
    ),
    '5 m³': (
        ['5 cubic meters'],
        ['5 m²'],
    ),
    '5立方米': (
        ['5 m^3'],
        [],
    ),
    '5立方厘米': (
        ['5 cm³'],
        [],
    ),
    '100 kPa': (
        ['100'],
        [],
    ),
    '10 N': (
        ['10 newtons'],
        [],
    ),
    '6 J': (
        ['6'],
        [],
    ),
    '6 W': (
        ['6 watts'],
        [],
    ),
    '220 V': (
        ['220'],
        [],
    ),
    '5 A': (
        ['5'],
        [],
    ),
    '50 Hz': (
        ['50 hertz'],
        [],
    ),
    '37℃': (
        ['37'],
        ['37°F'],
    ),
    '37°C': (
        ['37 degrees Celsius'],
        [],
    ),
    '98.6°F': (
        ['98.6'],
        [],
    ),
    '300 K': (
        ['300'],
        [],
    ),
    '3 dm': (
        ['3分米'],
        [],
    ),
    '7 inches': (
        ['7 in'],
        ['7 cm'],
    ),
    '6 feet': (
        ['6 ft'],
        [],
    ),
    '5 yards': (
        ['5 yd'],
        [],
    ),
    '5 miles': (
        ['5'],
        [],
    ),
    '5英里': (
        ['5 miles'],
        [],
    ),
    '10 acres': (
        ['10'],
        [],
    ),
    '10公顷': (
        ['10 hectares'],
        [],
    ),
    '3 weeks': (
        ['3'],
        [],
    ),
    '3天': (
        ['3 days'],
        [],
    ),
    '3个月': (
        ['3 months'],
        [],
    ),
    '2 minutes': (
        ['2分钟'],
        [],
    ),
    '90 seconds': (
        ['90 s'],
        [],
    ),
    '90秒': (
        ['90'],
        [],
    ),
    '5 rad': (
        ['5 radians'],
        ['5°'],
    ),
    '\\frac{\\pi}{3}': (
        ['π/3', '\\pi/3 rad'],
        [],
    ),
    '\\frac{π}{3}': (
        ['π/3'],
        [],
    ),
    '45 mph': (
        ['45 miles per hour'],
        [],
    ),
    '45英里/小时': (
        ['45'],
        [],
    ),
    '9.8 m/s²': (
        ['9.8米/秒²', '9.8 m/s^2'],
        ['9.8 m/s'],
    ),
    '1.2 g/cm³': (
        ['1.2 g/cm^3', '1.2克每立方厘米'],
        [],
    ),
    '5元/千克': (
        ['5 元/kg', '5'],
        ['5元', '5 元/个'],
    ),
    '$3/kg': (
        ['3'],
        ['$3'],
    ),
    '3 dollars per kg': (
        ['3'],
        [],
    ),
    '12 eggs': (
        ['12', '12 eggs'],
        [],
    ),
    '4 sides': (
        ['4'],
        [],
    ),
    '4': (
        ['4 sides'],
        ['4 is not'],
    ),
    '6': (
        ['6 faces'],
        [],
    ),
    '8': (
        ['8 vertices', '８。', '８'],
        ['８８'],
    ),
    '7': (
        ['7 days', '7 years old', 'seven'],
        [],
    ),
    '3': (
        ['3 times', '3 ways', '3种'],
        [],
    ),
    '3次': (
        ['3'],
        ['3元'],
    ),
    '3种': (
        ['3 kinds'],
        [],
    ),
    '24': (
        ['24 cm²', '24平方厘米', '24 square feet'],
        ['24 is too big'],
    ),
    '0.5 m': (
        ['0.5米'],
        [],
    ),
    '1/2 m': (
        ['0.5 m'],
        [],
    ),
    '\\frac{1}{2}cm²': (
        ['1/2 cm^2'],
        [],
    ),
    '\\frac{3}{5}': (
        ['0.6', '60%'],
        [],
    ),
    '2\\sqrt{3} cm': (
        ['2√3', '2\\sqrt 3\\ \\text{cm}', '2√3厘米', '3.464102'],
        ['2\\sqrt{3} cm^2', '3.46'],
    ),
    '(3,-4)': (
        ['(3, −4)', '（3，-4）', 'A(3,-4)', 'The coordinates are (3, -4)', '\\left(3,-4\\right)'],
        ['(-3,4)', '(3,4)', '3,-4 or -3,4'],
    ),
    '(-\\infty,2)': (
        ['(−∞, 2)'],
        [],
    ),
    '(-∞,2]': (
        ['(-\\infty, 2]'],
        [],
    ),
    'x<2': (
        ['2 > x', 'x < 2.'],
        ['x>2', '-x<2'],
    ),
    '-1<x<2': (
        ['−1 < x < 2'],
        ['-1<x'],
    ),
    'x≥0': (
        ['x ≥ 0', 'x>=0'],
        [],
    ),
    'y=x^2': (
        ['y = x²', 'y=x**2', 'y-x^2=0'],
        ['y=x', 'y^2=x', 'y=x^3'],
    ),
    'x^2+y^2=25': (
        ['x²+y²=25', 'x^2 + y^2 = 5^2'],
        ['25', 'x^2+y^2=5'],
    ),
    '2x-3y=6': (
        ['2x − 3y = 6', 'y = \\frac{2}{3}x - 2', 'y=\\frac{2x-6}{3}', '\\frac{x}{3}-\\frac{y}{2}=1'],
        ['2x+3y=6', '6'],
    ),
    'a^2+b^2=c^2': (
        ['c²=a²+b²'],
        [],
    ),
    'F=ma': (
        ['ma=F', 'F=am'],
        ['F=m', 'F=m/a'],
    ),
    '5:3': (
        ['5:3', '5 : 3'],
        ['3:5', '5', '53', '5:3:1'],
    ),
    '3:4:5': (
        ['3:4:5'],
        ['3:4'],
    ),
    '∠A': (
        ['∠A'],
        [],
    ),
    '△ABC': (
        ['△ABC'],
        [],
    ),
    'AB': (
        ['AB', 'BA'],
        ['CD'],
    ),
    'AB\u2225CD': (
        ['AB\u2225CD'],
        [],
    ),
    'acute': (
        ['Acute'],
        ['not acute', 'obtuse'],
    ),
    'yes': (
        ['Yes'],
        ['no', 'not yes'],
    ),
    'Yes': (
        ['yes.'],
        [],
    ),
    'True': (
        ['true'],
        [],
    ),
    'no': (
        ['No.'],
        ['yes'],
    ),
    '30°': (
        ['30 度', '30°.', '30°。'],
        [],
    ),
    '30': (
        ['30 度'],
        ["30' "],
    ),
    '120°': (
        ['120 degree', '120 º'],
        [],
    ),
    '90°': (
        ['ninety degrees', '九十度'],
        ['90 m'],
    ),
    '45': (
        ['forty-five', 'Forty-Five', '四十五'],
        ['four five', '4 5', 'forty five six'],
    ),
    '12': (
        ['twelve', '十二', 'Twelve.'],
        [],
    ),
    '20': (
        ['twenty'],
        [],
    ),
    '11': (
        ['eleven'],
        [],
    ),
    '15': (
        ['fifteen objects'],
        [],
    ),
    '2': (
        ['two', '两个', 'Two cubes'],
        ['√2', 'log_2 4 + 1'],
    ),
    '0': (
        ['zero objects'],
        ['-', '1-1/2', '0 or 1', 'not 0', 'nothing', '1e-300', 'x', '0.0000000001', '2^{-1000}', 'e^{-100}', '1/\\infty', '0/0', '-0.0000001'],
    ),
    '1e6': (
        ['1,000,000'],
        [],
    ),
    '10000': (
        ['10,000', '10 000', '10000.00'],
        ['1 0000', '100 00'],
    ),
    '12345': (
        ['12\u202f345'],
        [],
    ),
    '-7': (
        ['－７', '−7'],
        [],
    ),
    '1/2': (
        ['１／２'],
        ['1 2', '2/1', '1/2/1/2', '-1/2', '1/2 of 3', '½ of 3'],
    ),
    '3.5': (
        ['３．５', '3．5'],
        [],
    ),
    '100%': (
        ['100', '1'],
        ['100 cm'],
    ),
    '33.3%': (
        ['33.3'],
        ['33.33%'],
    ),
    '12%': (
        ['12％', '０．１２', '12 percent'],
        ['120%'],
    ),
    '12cm': (
        [],
        ['12 dm', '12 in', '12 cm³', '12 cm^{-1}', '1/12 cm', '12 m cm', '12 centi', '12 cms wide or 13', '12 cm and 12 m', '12 m (cm)', '12°C'],
    ),
    '50%': (
        [],
        ['50°', '50 per mille', '50 percent off'],
    ),
    '60 km/h': (
        [],
        ['60 km/h^2', '60 kmh^2', '60 m/h'],
    ),
    '5元': (
        [],
        ['5 cents', '5 元/kg'],
    ),
    '2 hours': (
        [],
        ['2 h 30 min', '120 minutes'],
    ),
    '3/4': (
        [],
        ['3/4/1/2'],
    ),
    'x+y=5': (
        [],
        ['x+y=5 or x-y=5', 'x+y=5, x-y=1', 'x+y≥5', 'x+y=5+z', 'X+Y=5', 'not x+y=5', '0(x+y-5)=0', '(x+y-5)^2=0', '(x+y-5)(x-y)=0', 'x=5'],
    ),
    'x=5': (
        [],
        ['5=x=6'],
    ),
    'y=2x': (
        [],
        ['y=2x+0.0001', 'y=2.000001x'],
    ),
    '(1,2)': (
        [],
        ['(1,2),(3,4)', 'x=1,y=2', '1 and 2'],
    ),
    'π': (
        [],
        ['3.14159', '\\pi^2', 'pie'],
    ),
    '1000': (
        [],
        ['1 0 0 0', '1,0,0,0', '10,00'],
    ),
    '1 000': (
        [],
        ['1'],
    ),
    '1': (
        [],
        ['0/0', '\\infty/\\infty', '1^\\infty', '100%x'],
    ),
    'π/3': (
        [],
        ['\\frac{\\pi}{3.0001}'],
    ),
    '1/3': (
        [],
        ['33%', '33.3%'],
    ),
}  # fmt: skip

CHOICES: Table = {
    'B': (
        [
            'B, because 12 is the sum', 'B, because x is 12.', 'B. Because the triangle is right-angled', 'B, since AB = 12',
            '(B), because the angles add up to 180', 'B — 12', 'B – 12', 'B - x = 12', 'B: x = 12', 'B. 12 cm', '(B) 12 cm', 'B. $12$',
            '(B) $12$', '$\\mathrm{(B)}\\ 12$', '\\boxed{B. 12}', '\\boxed{\\text{(B) }12}', '**B. 12**', '**B)** 12', '**B:** 12',
            '**B** - 12', '**B** (12)', 'Answer: **B. 12**', 'Answer: B. 12', 'Answer: B) 12', 'Answer: (B) 12', 'Correct answer: **B**',
            'The answer is "B".', "The answer is 'B'", 'The answer is [B]', 'The answer is \\textbf{B}', 'The answer is \\boxed{B}.',
            'The answer is $B$.', 'The best answer is B.', 'The best choice is B', 'The right answer is B', 'the correct letter is B',
            'The letter is B.', 'The chosen letter is B', 'The correct choice would be B', 'The answer would be (B).', 'That would be B',
            'So, B.', 'So: B', 'Thus: B', 'Hence B.', 'Therefore B.', 'Therefore, (B).', 'Therefore, option B.',
            'Therefore, option B is correct.', 'Therefore, the correct option is B.', 'Thus, the answer is option B.',
            'Thus the correct choice is B. 12', 'In conclusion, B', 'Finally, B', 'I choose (B).', 'I choose "B"', 'I select option B.',
            'I pick B.', "I'd pick B", 'I will choose B', 'We choose B.', 'My answer: B', 'My choice: B', 'Choice: B', 'Option: B',
            'Letter: B', 'Option B, 12', 'Option B (12)', 'Option (B) 12', 'option B is the answer', 'Option B is the correct answer.',
            'B is the correct choice', 'B is the right answer.', 'B is the correct one', 'B is true', '(B) is correct.', 'B is correct',
            'It is B.', "It's (B).", 'It should be B.', 'It must be B', 'It would be B', 'ｂ', 'Ｂ．', '［Ｂ］', '“Ｂ”', '‘B’', '〔B〕', '选Ｂ', '选（B）',
            '选 (B)', '应选B', '应该选B', '故应选B', '故本题选B', '综上，选B', '答案:B', '答案：Ｂ', '答案是（B）', '答案是B。', '答案是选项B', '正确答案为B', '正确选项为B', '因此答案是B',
            '所以正确答案是B', '所以应选B', '我选择B', '我的答案是B', '选项B正确', 'B选项正确', 'B选项', 'B 正确', 'B，因为角相等', 'B，因为x=12', 'B、12', 'B：12', 'B，12',
        ],
        [
            'B is out', 'Not B but C', 'B is a trap', 'exclude B', 'B?? C', 'B.C', 'B . C', 'B then C', 'C (not B)', 'B → C', 'B ≠ C',
            'B (wrong)', 'B (no)', 'B, wait, C', 'B. 12 is wrong', 'B. 12 (wrong)', '~~B~~', 'B~~', '\\cancel{B}', '<s>B</s>',
            'B or something', 'b or c', 'a/b', 'A,B,C,D', '(A)(B)(C)(D)', 'A.B.C.D', 'All of the above', 'None', 'B, none',
            'B is the least likely', 'B is not the answer', 'It is not B', "I don't choose B", 'I chose C over B', 'the letter after B',
            'the option before B', 'option B or C', 'Option B is incorrect', 'B is the answer? No', 'B. Not sure', 'B. because C is right',
            'B because I rejected it', 'B because wrong', 'B because it is not', 'B because no', 'B\n\nC', 'B\n12\nC', 'Answer: B C',
            'Answer: B/C', 'Answer: B or C', 'Answer: A B', 'Answer: AB', 'ABC', 'BA', 'B and 12', 'B + 12', 'B12', '12B', '12 B', '12 or B',
            'C. 12', 'A. 12', 'D - 12', 'B - 14', 'B: 10', '(B) 16', 'B. 12, C. 14', 'B. 12; C. 14', 'B、C', 'B和C', 'B或C', 'B与C都对', '不选B',
            'B不对', 'B是错的', '除了B', '选B或C', '选项B错误', '我不选B', '答案不是B', 'B?', 'B!', '!B', 'B%', 'B°', "B'", 'β', '\U0001f171', 'В', 'Β', 'B́',
            '\u202eB', 'B\u202e', '\u2067B\u2069',
        ],
    ),
    'AC': (
        [
            'A, C', 'C, A', 'A and C', 'AC', 'CA', 'A、C', 'A,C', '(A), (C)', 'A; C', 'A & C', 'The correct answers are A and C',
            'The answers are A and C.', 'Options A and C', 'A and C are correct', '选AC', '选A、C', '答案是AC', '答案：A、C', 'A, C.', '**A, C**',
            '**A** and **C**', '\\boxed{A, C}', '\\boxed{AC}', 'I choose A and C', 'both A and C', 'a and c',
        ],
        [],
    ),
}  # fmt: skip
