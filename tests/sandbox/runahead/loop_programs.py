"""Grows random cells full of sub-LM calls, in the ways in which language models write loops and in worse ones.

Every program compiles; most run to their end, some end in an error, which has to be the same error then.
"""

from __future__ import annotations

import random
from collections.abc import Callable

_WORDS = ("alpha", "beta", "gamma", "delta")
_PRELUDE = """
import collections, json, random, re
random.seed(3)
text = 'the quick brown fox jumps over the lazy dog'
out, seen, table, total = [], set(), {}, 0
"""


class Program:
    """One random program.

    Args:
        seed: what it is made of.
    """

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._lines: list[str] = []
        self._indent = 0
        self._names = 0
        self._texts = ["text"]
        self._numbers = ["total"]
        self._functions: list[str] = []
        self._generators: list[str] = []
        self._loops = 0
        self._in_function = 0
        self._weight = 1
        self._left = self._random.randint(5, 14)
        while self._left > 0:
            self._statement()
        self._line("print(total, out[:3], sorted(map(str, seen))[:4], sorted(map(str, table))[:4])")
        self.code = _PRELUDE.lstrip() + "\n".join(self._lines) + "\n"

    # Bits

    def _pick(self, *options: str) -> str:
        return self._random.choice(options)

    def _chance(self, share: float) -> bool:
        return self._random.random() < share

    def _new(self, prefix: str) -> str:
        self._names += 1
        return f"{prefix}{self._names}"

    def _line(self, text: str) -> None:
        self._lines += ["    " * self._indent + line for line in text.split("\n")]

    def _text(self) -> str:
        return self._random.choice(self._texts[-4:])

    def _number(self) -> str:
        return self._random.choice(self._numbers[-3:])

    def _prompt(self) -> str:
        part = self._pick(
            "{" + self._text() + "}",
            "{" + self._number() + "}",
            "{" + self._text() + "[:9]}",
            "{out[-1:]}",
            "{len(out)}",
            "fixed",
        )
        return f"f'{self._pick(*_WORDS)} {part}'"

    def _ask(self) -> str:
        if self._functions and self._chance(0.2):
            return f"{self._random.choice(self._functions)}({self._text()})"
        prompt = self._pick(
            self._prompt(),
            self._prompt(),
            self._prompt(),
            f"'%s and {self._pick(*_WORDS)}' % {self._text()}",
            f"'join: ' + ', '.join([{self._text()}, str({self._number()})])",
            f"'{{}}!'.format({self._text()})",
        )
        return f"llm_query({prompt})"

    def _cleaned(self) -> str:
        asked = self._ask()
        return self._pick(
            asked,
            f"{asked}.strip()",
            f"{asked}.lower()[:12]",
            f"{asked}.replace('a', '').split('>')[0]",
            f"re.sub(r'\\d', '#', {asked})",
            f"str({asked}).title()",
            f"({asked} or 'none')",
            f"(lambda value, size=len({asked}): value[:size])({asked})",
            f"' '.join({asked}.split()[:3])",
        )

    def _test(self) -> str:
        name = self._text()
        return self._pick(
            f"'a' in {name}",
            f"'1' not in {name}",
            f"len({name}) % 2",
            f"{name}.strip().startswith('<a')",
            f"{self._number()} > 3",
            "len(out) < 6",
            f"{name} in seen",
            f"'e' in {name} and '2' in {name}",
            f"not re.search('[13]', {name})",
            f"{name}[2:3] == 'b' or 'x' in {name}",
            f"{self._ask()}[3:4] > 'b'",
        )

    def _store(self, name: str) -> None:
        self._line(
            self._pick(
                f"out.append({name})",
                f"seen.add({name})",
                f"table[{name}] = {self._number()}",
                f"table.setdefault({name}[:6], []).append({name})",
                f"out += [{name}, {name}[:2]]",
                f"table[len(out)] = {name}",
                f"out.insert(0, {name})",
                f"out[:] = out[-5:] + [{name}]",
            )
        )

    # Statements

    def _block(self, most: int = 3) -> None:
        self._indent += 1
        texts, numbers = list(self._texts), list(self._numbers)
        before = len(self._lines)
        for _ in range(self._random.randint(1, most)):
            self._statement()
        if len(self._lines) == before:
            self._line("pass")
        self._indent -= 1
        if not self._chance(0.1):  # a name bound in a block is mostly not used after it
            self._texts, self._numbers = texts, numbers

    def _statement(self) -> None:
        self._left -= 1
        if self._indent > 7 or self._weight > 30:
            self._assign()
            return
        choices: tuple[tuple[float, Callable[[], None]], ...] = (
            (6, self._assign),
            (2, self._count),
            (3, self._if),
            (4, self._for),
            (1.5, self._while),
            (2, self._try),
            (2, self._comprehension),
            (1.5, self._function),
            (0.8, self._class),
            (0.7, self._generator),
            (1, self._batch),
            (0.8, self._threads),
            (1.5, self._jump),
            (0.7, self._with),
            (0.7, self._print),
            (0.5, self._tool),
            (0.5, self._randomness),
            (0.4, self._match),
            (0.4, self._submit),
        )
        weights, makers = zip(*choices, strict=True)
        self._random.choices(makers, weights)[0]()

    def _assign(self) -> None:
        name = self._new("a")
        form = self._pick("plain", "plain", "plain", "pair", "star", "walrus", "update")
        if form == "pair":
            self._line(f"{name}, other = {self._cleaned()}, {self._cleaned()}")
        elif form == "star":
            self._line(f"{name}, *rest = ({self._ask()} + ' x').split()")
        elif form == "walrus":
            self._line(f"print(len({name} := {self._cleaned()}))")
        elif form == "update":
            self._line(f"{name} = ''\n{name} += {self._cleaned()}\n{name} = {name} + {self._text()}")
        else:
            self._line(f"{name} = {self._cleaned()}")
        self._texts.append(name)
        if self._chance(0.6):
            self._store(name)

    def _count(self) -> None:
        if self._in_function:
            name = self._new("n")
            self._line(f"{name} = len({self._text()})")
            self._numbers.append(name)
        else:
            self._line(f"total += len({self._cleaned()}) if {self._test()} else 1")

    def _if(self) -> None:
        self._line(f"if {self._test()}:")
        self._block()
        if self._chance(0.3):
            self._line("else:")
            self._block(2)

    def _for(self) -> None:
        size = self._random.randint(2, 6)
        number, name = self._new("i"), self._new("c")
        self._line(
            self._pick(
                f"for {number} in range({size}):",
                f"for {number}, {name} in enumerate({_WORDS!r}[:{size}]):",
                f"for {number}, {name} in zip(range({size}), out + ['z']):",
                f"for {name} in {self._text()}.split()[:{size}]:",
                f"for {name} in list(seen)[:{size}]:",
            )
        )
        head = self._lines[-1]
        texts, numbers = list(self._texts), list(self._numbers)
        if name in head:
            self._texts.append(name)
            self._indent += 1
            self._line(f"{name} = str({name})")
            self._indent -= 1
        if number in head:
            self._numbers.append(number)
        self._loops, self._weight = self._loops + 1, self._weight * size
        self._block(4)
        self._loops, self._weight = self._loops - 1, self._weight // size
        self._texts, self._numbers = texts, numbers
        if self._chance(0.08):
            self._line("else:")
            self._block(1)

    def _while(self) -> None:
        count, size = self._new("w"), self._random.randint(2, 5)
        extra = f" and ({self._test()})" if self._chance(0.4) else ""
        self._line(f"{count} = 0\nwhile {count} < {size}{extra}:\n    {count} += 1")
        self._loops, self._weight = self._loops + 1, self._weight * size
        self._block()
        self._loops, self._weight = self._loops - 1, self._weight // size

    def _try(self) -> None:
        self._line("try:")
        self._block()
        self._line(self._pick("except Exception as error:", "except (ValueError, KeyError):", "except:"))
        handled = "print(type(error).__name__, error)" if "as error" in self._lines[-1] else "out.append('failed')"
        self._line("    " + (handled if self._chance(0.8) else "pass"))
        if self._chance(0.15):
            self._line("finally:")
            self._block(1)

    def _comprehension(self) -> None:
        name, size = self._new("l"), self._random.randint(2, 5)
        one = self._cleaned()
        test = f" if {self._test()}" if self._chance(0.4) else ""
        self._line(
            self._pick(
                f"{name} = [{one} for k in range({size}){test}]",
                f"{name} = {{k: {one} for k in range({size}){test}}}",
                f"{name} = {{{one} for k in range({size}){test}}}",
                f"{name} = sorted(({one} for k in range({size}){test}), key=len)",
                f"{name} = [[{one} for k in range(2){test}] for j in range(2)]",
                f"{name} = sum(len({one}) for k in range({size}){test})",
                f"{name} = any('b' in {one} for k in range({size}))",
                f"{name} = list(filter(lambda k: '2' in llm_query(f'keep {{k}}'), range({size})))",
                f"{name} = max(range({size}), key=lambda k: len(llm_query(f'score {{k}} {{total}}')))",
            )
        )
        self._line(f"out.append(repr({name})[:20])")

    def _function(self) -> None:
        if self._in_function > 1 or self._loops:
            self._assign()
            return
        name, argument = self._new("f"), self._new("x")
        default = self._pick("", "", f", key=lambda value: value[:{self._random.randint(1, 9)}]", ", kept=[]")
        self._line(f"def {name}({argument}{default}):")
        self._inner(argument, lambda: self._line(f"return {self._pick(self._text(), self._ask(), self._cleaned())}"))
        self._functions.append(name)

    def _inner(self, argument: str, finish: Callable[[], None]) -> None:
        texts, numbers, loops = list(self._texts), list(self._numbers), self._loops
        self._texts = ["text", argument]
        self._loops, self._in_function, self._weight = 0, self._in_function + 1, self._weight * 3
        self._numbers = [f"len({argument})"]
        if self._chance(0.3):
            self._indent += 1
            self._line("global total\ntotal += 1")
            self._indent -= 1
        if self._chance(0.2):  # the body of a class inside a function sees neither its names nor the method's
            self._indent += 1
            kind = self._new("K")
            self._line(f"class {kind}:\n    made = [llm_query(f'made {{k}}') for k in range(2)]\n    size = len(made)")
            self._line(f"{argument} = {argument} + str({kind}.size) + {kind}.made[0]")
            self._indent -= 1
        self._block(3)
        self._indent += 1
        finish()
        self._indent -= 1
        self._texts, self._numbers, self._loops = texts, numbers, loops
        self._in_function, self._weight = self._in_function - 1, self._weight // 3

    def _class(self) -> None:
        if self._in_function or self._loops:
            self._assign()
            return
        kind, made = self._new("K"), self._new("o")
        rolling = self._pick("", " {self.log[-1:]}", " {self.count}")
        self._line(
            f"class {kind}:\n    tag = 'T'\n    def __init__(self):\n        self.count, self.log = 0, []\n"
            f"    def add(self, item):\n        answer = llm_query(f'add {{item}}{rolling}')\n"
            f"        if {self._pick('True', chr(39) + '1' + chr(39) + ' in answer')}:\n            self.log.append(answer[:8])\n"
            f"        self.count += {self._pick('1', 'len(answer)')}\n        return answer\n{made} = {kind}()"
        )
        self._functions.append(f"{made}.add")

    def _generator(self) -> None:
        if self._in_function or self._loops:
            self._assign()
            return
        name, item = self._new("g"), self._new("y")
        skip = self._pick("", "        if '1' in answer: continue\n", "        if len(answer) > 30: return\n")
        self._line(
            f"def {name}(n):\n    for k in range(n):\n        answer = llm_query(f'make {{k}}')\n{skip}        yield answer.strip()\n"
            f"for {item} in {name}(4):\n    out.append(llm_query(f'use {{{item}}}')[:9])"
        )

    def _batch(self) -> None:
        name = self._new("b")
        self._line(
            f"{name} = llm_query_batched([f'batch {{k}} {{{self._text()}}}' for k in range({self._random.randint(2, 5)})])"
        )
        self._line(f"out.extend({name})")

    def _threads(self) -> None:
        name = self._new("t")
        self._line(
            "from concurrent.futures import ThreadPoolExecutor\n"
            f"def {name}(k):\n    first = llm_query(f'thread {{k}}')\n    return llm_query(f'then {{first.strip()[:9]}}') if k % 2 else first\n"
            f"with ThreadPoolExecutor(3) as pool:\n    out.extend(pool.map({name}, range({self._random.randint(2, 5)})))"
        )

    def _jump(self) -> None:
        options = ["raise ValueError(" + self._text() + ")"] if self._chance(0.3) else []
        options += ["break", "continue"] if self._loops else []
        options += ["return " + self._text()] if self._in_function else []
        if options:
            self._line(f"if {self._test()}:\n    {self._pick(*options)}")
        else:
            self._assign()

    def _with(self) -> None:
        self._line("import contextlib, io")
        self._line(
            self._pick(
                "with contextlib.suppress(ValueError):", "with contextlib.redirect_stdout(io.StringIO()) as held:"
            )
        )
        self._block(2)

    def _print(self) -> None:
        self._line(f"print({self._text()}, {self._number()}, {self._cleaned()})")

    def _tool(self) -> None:
        self._line(f"out.append(note({self._text()}))")

    def _randomness(self) -> None:
        self._line(
            self._pick("random.shuffle(out)", "total += random.randint(1, 9)", "out.append(str(random.random())[:5])")
        )

    def _match(self) -> None:
        self._line(
            f"match {self._ask()}.strip()[:3].split():\n    case [one]:\n        out.append(llm_query('one ' + one))\n    case _:\n        total = -1"
        )

    def _submit(self) -> None:
        self._line(f"if len(out) > {self._random.randint(2, 12)} and {self._test()}:\n    SUBMIT({self._text()})")


def grow(seed: int) -> str:
    """The program of a seed."""
    return Program(seed).code


if __name__ == "__main__":
    import sys

    print(grow(int(sys.argv[1])))
