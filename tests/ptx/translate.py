"""Translates the PTX that nvcc wrote for a file into C++ that runs on the host, under the device of `device.h`.

    python translate.py FILE.ptx PART.cpp ...

Every kernel goes to one of the parts, so that they are compiled side by side. It becomes a function of its parameter's
address, every register a variable, every access to memory a call that checks it. What a kernel of this project has no
use for (local memory, partial masks, named barriers) is refused with the line that asks for it.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

TYPES = {
    "pred": "bool",
    **{f"{kind}{bits}": f"uint{bits}_t" for kind in "bu" for bits in (8, 16, 32, 64)},
    **{f"s{bits}": f"int{bits}_t" for bits in (8, 16, 32, 64)},
    "f32": "float",
    "f64": "double",
}
SPECIAL = {
    "%tid.x": "thread()",
    "%ntid.x": "threads()",
    "%laneid": "lane()",
    **{f"%ctaid.{axis}": f"block_{axis}()" for axis in "xy"},
    **{f"%nctaid.{axis}": f"grid_{axis}()" for axis in "xy"},
}
COMPARISONS = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
COMPARISONS |= {"lo": "<", "ls": "<=", "hi": ">", "hs": ">="}
LOGIC = {"and": "&", "or": "|", "xor": "^"}
# Qualifiers that say how to cache or order an access, or how to round as C++ does anyway.
_NO_MATTER = {"nc", "ca", "cg", "cs", "relaxed", "gpu", "cta", "weak", "uni", "sync", "aligned", "rn", "b16x2"}


class UnknownError(ValueError):
    """An instruction that is not translated."""


@dataclass
class Kernel:
    """One entry of a file.

    Attributes:
        symbol: Its name, mangled.
        parameter: Name of the one parameter.
        size: Bytes of the parameter.
        threads: The most that a block may have.
        body: The statements.
    """

    symbol: str
    parameter: str
    size: int
    threads: int
    body: str


_ENTRY = re.compile(
    r"\.entry (?P<symbol>\w+)\(\s*\.param (?:\.align \d+ \.b8 (?P<parameter>\w+)\[(?P<size>\d+)\]|"
    r"\.[ubsf](?P<bits>\d+) (?P<scalar>\w+))\s*\)(?P<directives>.*?)^\{(?P<body>.*?)^\}",
    re.DOTALL | re.MULTILINE,
)
_VARIABLE = re.compile(
    r"\.(?P<space>global|const|shared) \.align (?P<align>\d+) \.(?P<kind>[bus]\d+) (?P<name>[\w$]+)"
    r"(?P<array>\[(?P<count>\d*)\])?(?: = \{?(?P<values>[^};]*)\}?)?;"
)


_FUNCTION = re.compile(
    r"\.func\s+(?:\(\.param \.\w+ (?P<result>\w+)\) )?(?P<symbol>\w+)\((?P<parameters>[^)]*)\)"
    r"[^;{]*^\{(?P<body>.*?)^\}",
    re.DOTALL | re.MULTILINE,
)


def functions_of(text: str) -> list[str]:
    """The functions that kernels call, in C++, behind their declarations: a result and parameters by address."""
    declarations, definitions = [], []
    for match in _FUNCTION.finditer(text):
        names = [match["result"]] if match["result"] else []
        names += re.findall(r"\w+(?=\s*(?:,|$))", match["parameters"].strip())
        head = f"[[maybe_unused]] void {identifier(match['symbol'])}({', '.join(f'char* {name}' for name in names)})"
        translator = Translator(Kernel(match["symbol"], "", 0, 0, match["body"]), {})
        translator.passed |= set(names)
        declarations.append(f"{head};")
        definitions.append(translator.function(head))
    return declarations + definitions


def kernels_of(text: str) -> Iterator[Kernel]:
    """The entries of a file without comments."""
    for match in _ENTRY.finditer(text):
        threads = re.search(r"\.maxntid (\d+)", match["directives"])
        yield Kernel(
            match["symbol"],
            match["parameter"] or match["scalar"],
            int(match["size"] or int(match["bits"]) // 8),
            int(threads[1]) if threads else 1024,
            match["body"],
        )


def identifier(name: str) -> str:
    """A register or label as C++ names it."""
    return "_" + re.sub(r"\W", "", name)


def split(arguments: str) -> list[str]:
    """Operands, at the commas outside of brackets."""
    return [part.strip() for part in re.findall(r"(?:\{[^}]*\}|\[[^\]]*\]|[^,{\[])+", arguments)]


class Translator:
    """Writes the statements of one kernel."""

    def __init__(self, kernel: Kernel, variables: dict[str, str]) -> None:
        """`variables` are the module's, by name, as C++ expressions of their addresses."""
        self.kernel = kernel
        self.variables = variables
        self.types: dict[str, str] = {}
        self.passed: set[str] = set()  # what lies where a call passes it

    def function(self, head: str) -> str:
        """The code as a C++ function that begins so."""
        declarations, lines = [], []
        for statement in self._statements():
            if statement in ("{", "}"):
                lines.append(statement)
            elif statement.startswith(".reg"):
                # Those of an inner scope may have a name again that an outer one has.
                (lines if "<" not in statement else declarations).append(self._declare(statement))
            elif statement.startswith(".param"):
                lines.append(self._pass(statement))
            elif statement.endswith(":"):
                lines.append(identifier(statement[:-1]) + ":;")
            elif not statement.startswith("."):
                lines.append(self._guarded(statement))
        return "\n".join([f"{head} {{", *declarations, *lines, "}"])

    def _statements(self) -> Iterator[str]:
        text = re.sub(r"(\$\w+:)", r"\1;", self.kernel.body)
        for part in text.split(";"):
            rest = part.strip()
            # Braces around inline assembly; those of operands are never first or unpaired.
            while rest.startswith(("{", "}")):
                yield rest[0]
                rest = rest[1:].strip()
            closing = rest.count("}") - rest.count("{")
            for _ in range(closing):
                rest = rest[: rest.rindex("}")].strip()
            if rest:
                yield rest
            yield from "}" * closing

    def _declare(self, statement: str) -> str:
        match = re.fullmatch(r"\.reg \.(\w+)\s+(%?\w+)(?:<(\d+)>)?", statement)
        if match is None:
            raise UnknownError(statement)
        kind, name, count = match.groups()
        names = [f"{name}{number}" for number in range(int(count))] if count else [name]
        self.types |= dict.fromkeys(names, kind)
        return f"{TYPES[kind]} {', '.join(map(identifier, names))};"

    def _pass(self, statement: str) -> str:
        match = re.fullmatch(r"\.param (?:\.align \d+ )?\.\w(\d+) (\w+)(?:\[(\d+)\])?", statement)
        if match is None:
            raise UnknownError(statement)
        self.passed.add(match[2])
        return f"alignas(16) char {match[2]}[{int(match[1]) // 8 * int(match[3] or 1)}];"

    def _guarded(self, statement: str) -> str:
        match = re.match(r"@(!?)(%\w+)\s+(.*)", statement, re.DOTALL)
        try:
            if match:
                return f"if ({match[1]}{identifier(match[2])}) {{ {self._instruction(match[3])} }}"
            return self._instruction(statement)
        except (KeyError, IndexError, UnknownError) as error:
            raise UnknownError(f"{self.kernel.symbol}: cannot translate `{statement}` ({error!r})") from error

    def _instruction(self, statement: str) -> str:
        words = statement.split(None, 1)
        name, *qualifiers = words[0].split(".")
        method: Callable[[list[str], list[str]], str] | None = getattr(self, f"_do_{name}", None)
        if method is None:
            raise UnknownError(name)
        qualifiers = [qualifier for qualifier in qualifiers if qualifier not in _NO_MATTER]
        return method(
            [q for q in qualifiers if not q.startswith(("L1::", "L2::"))], split(words[1] if words[1:] else "")
        )

    # Operands

    def value(self, operand: str, kind: str) -> str:
        """An operand as a value of a type: the same bits, or their lower part."""
        wanted = TYPES[kind]
        if operand in SPECIAL:
            return f"({wanted}){SPECIAL[operand]}"
        if operand in self.types:
            return convert(identifier(operand), TYPES[self.types[operand]], wanted)
        if operand == self.kernel.parameter:
            return f"({wanted})(uint64_t)parameters"
        if operand in self.variables:
            return f"({wanted})({self.variables[operand]})"
        if match := re.fullmatch(r"0[fF]([0-9A-Fa-f]{8})", operand):
            return convert(f"0x{match[1]}u", "uint32_t", wanted)
        if match := re.fullmatch(r"0[dD]([0-9A-Fa-f]{16})", operand):
            return convert(f"0x{match[1]}ull", "uint64_t", wanted)
        if re.fullmatch(r"-?(\d+|0x[0-9A-Fa-f]+)U?", operand):
            return f"({wanted}){int(operand.rstrip('U'), 0) % 2**64}ull"
        raise UnknownError(f"operand {operand}")

    def set(self, register: str, kind: str, expression: str) -> str:
        """Gives a register a value of a type, extended by its sign where the register is wider."""
        if register == "_":
            return ""
        held = TYPES[self.types[register]]
        return f"{identifier(register)} = {convert(f'({TYPES[kind]})({expression})', TYPES[kind], held)};"

    def address(self, operand: str) -> str:
        """The sum in brackets."""
        match = re.fullmatch(r"\[\s*([%\w$]+)\s*(?:\+\s*(-?\d+))?\s*\]", operand)
        if match is None:
            raise UnknownError(f"address {operand}")
        return f"{self.value(match[1], 'u64')} + {int(match[2] or 0) % 2**64}ull"

    # Instructions, by the part of the name before the first dot; named as PTX names them.

    def _do_mov(self, qualifiers: list[str], operands: list[str]) -> str:
        (kind,) = qualifiers
        target, source = operands
        if target.startswith("{"):
            parts = split(target.strip("{}"))
            bits = int(kind[1:]) // len(parts)
            word = self.value(source, f"b{kind[1:]}")
            return " ".join(self.set(part, f"b{bits}", f"{word} >> {bits * i}") for i, part in enumerate(parts))
        if source.startswith("{"):
            parts = split(source.strip("{}"))
            bits = int(kind[1:]) // len(parts)
            joined = " | ".join(
                f"({TYPES[kind]}){self.value(part, f'u{bits}')} << {bits * i}" for i, part in enumerate(parts)
            )
            return self.set(target, kind, joined)
        return self.set(target, kind, self.value(source, kind))

    def _do_cvta(self, qualifiers: list[str], operands: list[str]) -> str:
        value = self.value(operands[1], "u64")
        if qualifiers[0] == "shared":
            value = f"generic_of_shared({value})"
        elif qualifiers[:2] == ["to", "shared"]:
            value = f"shared_of_generic({value})"
        return self.set(operands[0], "u64", value)

    def _do_cvt(self, qualifiers: list[str], operands: list[str]) -> str:
        *rounding, to, of = qualifiers
        if to in ("f16x2", "bf16x2"):
            high, low = (self.value(operand, "f32") for operand in operands[1:])
            return self.set(operands[0], "b32", f"pack_{to}({high}, {low})")
        if "f16" in (to, of) or "bf16" in (to, of):
            half = to if to in ("f16", "bf16") else of
            if of == half:
                return self.set(operands[0], to, f"from_{half}({self.value(operands[1], 'b16')})")
            return self.set(operands[0], "b16", f"to_{half}({self.value(operands[1], of)})")
        value = self.value(operands[1], of)
        rounded = {"rni": "std::nearbyint", "rzi": "std::trunc", "rmi": "std::floor", "rpi": "std::ceil"}
        if of[0] == "f" and rounding:
            (mode,) = rounding
            value = f"{rounded[mode]}({value})"
        elif rounding:
            raise UnknownError(f"rounding {rounding}")
        if of[0] == "f" and to[0] != "f":
            return self.set(operands[0], to, f"saturated<{TYPES[to]}>({value})")
        return self.set(operands[0], to, value)

    def _binary(self, qualifiers: list[str], operands: list[str], expression: str) -> str:
        """An expression of {a}, {b} and {c}; integers wrap."""
        (kind,) = qualifiers
        kind = f"u{kind[1:]}" if kind[0] == "s" else kind
        values = dict(zip("abc", (self.value(operand, kind) for operand in operands[1:]), strict=False))
        return self.set(operands[0], kind, expression.format(**values))

    def _do_add(self, qualifiers: list[str], operands: list[str]) -> str:
        return self._binary(qualifiers, operands, "{a} + {b}")

    def _do_sub(self, qualifiers: list[str], operands: list[str]) -> str:
        return self._binary(qualifiers, operands, "{a} - {b}")

    def _do_neg(self, qualifiers: list[str], operands: list[str]) -> str:
        return self._binary(qualifiers, operands, "-{a}")

    def _do_mul(self, qualifiers: list[str], operands: list[str], addend: str = "") -> str:
        *part, kind = qualifiers
        if part == ["wide"]:
            wide = f"{kind[0]}{2 * int(kind[1:])}"
            left, right = (f"({TYPES[wide]}){self.value(operand, kind)}" for operand in operands[1:3])
            return self.set(operands[0], wide, f"{left} * {right}{self._plus(operands, wide)}")
        if part == ["hi"]:
            left, right = (self.value(operand, kind) for operand in operands[1:3])
            return self.set(operands[0], kind, f"high_product({left}, {right}){self._plus(operands, kind)}")
        if part not in ([], ["lo"]):
            raise UnknownError(f"part {part}")
        sums = "{a} * {b} + {c}" if operands[3:] else "{a} * {b}"
        # The product of two 16-bit numbers overflows the int that C++ makes of them.
        return self._binary([kind], operands, sums if kind[0] == "f" else f"1u * {sums}")

    def _plus(self, operands: list[str], kind: str) -> str:
        return f" + {self.value(operands[3], kind)}" if operands[3:] else ""

    _do_mad = _do_mul

    def _do_fma(self, qualifiers: list[str], operands: list[str]) -> str:
        *saturates, kind = qualifiers
        sum_of_product = "std::fma({a}, {b}, {c})"
        return self._binary([kind], operands, f"within_one({sum_of_product})" if saturates else sum_of_product)

    def _signed(self, qualifiers: list[str], operands: list[str], function: str) -> str:
        """A function of the operands as what they are."""
        *_, kind = qualifiers
        values = ", ".join(self.value(operand, kind) for operand in operands[1:])
        return self.set(operands[0], kind, f"{function}({values})")

    def _do_div(self, qualifiers: list[str], operands: list[str]) -> str:
        return self._signed(qualifiers, operands, "divided")

    def _do_rem(self, qualifiers: list[str], operands: list[str]) -> str:
        return self._signed(qualifiers, operands, "remainder_of")

    def _do_min(self, qualifiers: list[str], operands: list[str]) -> str:
        return self._signed(qualifiers, operands, "smaller" if qualifiers[0] != "NaN" else "smaller_or_nan")

    def _do_max(self, qualifiers: list[str], operands: list[str]) -> str:
        return self._signed(qualifiers, operands, "larger" if qualifiers[0] != "NaN" else "larger_or_nan")

    def _do_abs(self, qualifiers: list[str], operands: list[str]) -> str:
        return self._signed(qualifiers, operands, "std::abs")

    def _do_sqrt(self, qualifiers: list[str], operands: list[str]) -> str:
        return self._signed(qualifiers, operands, "std::sqrt")

    def _do_rsqrt(self, qualifiers: list[str], operands: list[str]) -> str:
        return self._signed(qualifiers, operands, "1 / std::sqrt")

    def _do_rcp(self, qualifiers: list[str], operands: list[str]) -> str:
        return self._signed(qualifiers, operands, "1 / ")

    def _do_ex2(self, qualifiers: list[str], operands: list[str]) -> str:
        return self._signed(qualifiers, operands, "power_of_two")

    def _do_and(self, qualifiers: list[str], operands: list[str]) -> str:
        return self._binary(qualifiers, operands, "{a} & {b}")

    def _do_or(self, qualifiers: list[str], operands: list[str]) -> str:
        return self._binary(qualifiers, operands, "{a} | {b}")

    def _do_xor(self, qualifiers: list[str], operands: list[str]) -> str:
        return self._binary(qualifiers, operands, "{a} ^ {b}")

    def _do_not(self, qualifiers: list[str], operands: list[str]) -> str:
        return self._binary(qualifiers, operands, "!{a}" if qualifiers == ["pred"] else "~{a}")

    def _do_lop3(self, qualifiers: list[str], operands: list[str]) -> str:
        a, b, c = (self.value(operand, "b32") for operand in operands[1:4])
        return self.set(operands[0], "b32", f"logic_of_three({a}, {b}, {c}, {operands[4]})")

    def _shift(self, qualifiers: list[str], operands: list[str], function: str) -> str:
        (kind,) = qualifiers
        count = self.value(operands[2], "u32")
        return self.set(operands[0], kind, f"{function}({self.value(operands[1], kind)}, {count})")

    def _do_shl(self, qualifiers: list[str], operands: list[str]) -> str:
        return self._shift(qualifiers, operands, "shifted_left")

    def _do_shr(self, qualifiers: list[str], operands: list[str]) -> str:
        return self._shift(qualifiers, operands, "shifted_right")

    def _do_shf(self, qualifiers: list[str], operands: list[str]) -> str:
        low, high, count = (self.value(operand, "u32") for operand in operands[1:])
        return self.set(operands[0], "b32", f"funnel_{'_'.join(qualifiers[:2])}({low}, {high}, {count})")

    def _words(self, operands: list[str], function: str) -> str:
        """A function of 32-bit words."""
        values = ", ".join(self.value(operand, "b32") for operand in operands[1:])
        return self.set(operands[0], "b32", f"{function}({values})")

    def _do_prmt(self, qualifiers: list[str], operands: list[str]) -> str:
        if qualifiers != ["b32"]:
            raise UnknownError(f"mode {qualifiers}")
        return self._words(operands, "permuted_bytes")

    def _do_dp4a(self, qualifiers: list[str], operands: list[str]) -> str:
        return self._words(operands, f"sum_of_products<{', '.join(TYPES[f'{kind[0]}8'] for kind in qualifiers)}>")

    def _do_dp2a(self, qualifiers: list[str], operands: list[str]) -> str:
        half, *kinds = qualifiers
        first, second = TYPES[f"{kinds[0][0]}16"], TYPES[f"{kinds[1][0]}8"]
        return self._words(operands, f"sum_of_two_products<{first}, {second}, {0 if half == 'lo' else 2}>")

    def _do_bfi(self, qualifiers: list[str], operands: list[str]) -> str:
        if qualifiers not in (["b32"], ["b64"]):
            self._refuse(qualifiers)
        kinds = [*qualifiers * 2, "b32", "b32"]
        values = ", ".join(self.value(operand, kind) for operand, kind in zip(operands[1:], kinds, strict=True))
        return self.set(operands[0], qualifiers[0], f"bits_inserted({values})")

    def _do_bfe(self, qualifiers: list[str], operands: list[str]) -> str:
        return self._words(operands, "bits_extracted") if qualifiers == ["u32"] else self._refuse(qualifiers)

    def _do_brev(self, qualifiers: list[str], operands: list[str]) -> str:
        return self._words(operands, "reversed_bits") if qualifiers == ["b32"] else self._refuse(qualifiers)

    def _do_bfind(self, qualifiers: list[str], operands: list[str]) -> str:
        return self._words(operands, "leading_zeros") if qualifiers == ["shiftamt", "u32"] else self._refuse(qualifiers)

    def _do_popc(self, qualifiers: list[str], operands: list[str]) -> str:
        return self.set(operands[0], "u32", f"__builtin_popcountll({self.value(operands[1], qualifiers[0])})")

    def _do_clz(self, qualifiers: list[str], operands: list[str]) -> str:
        return self.set(operands[0], "u32", f"zeros_before({self.value(operands[1], qualifiers[0])})")

    def _refuse(self, qualifiers: list[str]) -> str:
        raise UnknownError(f"qualifiers {qualifiers}")

    def _do_selp(self, qualifiers: list[str], operands: list[str]) -> str:
        (kind,) = qualifiers
        first, second = (self.value(operand, kind) for operand in operands[1:3])
        return self.set(operands[0], kind, f"{self.value(operands[3], 'pred')} ? {first} : {second}")

    def _do_setp(self, qualifiers: list[str], operands: list[str]) -> str:
        comparison, *combined, kind = qualifiers
        left, right = self.value(operands[1], kind), self.value(operands[2], kind)
        answer = compared(comparison, left, right) if kind[0] == "f" else f"{left} {COMPARISONS[comparison]} {right}"
        if combined:
            (logic,) = combined
            answer = f"({answer}) {LOGIC[logic]} {self.value(operands[3], 'pred')}"
        return self.set(operands[0], "pred", answer)

    def _access(self, qualifiers: list[str]) -> tuple[str, int, str]:
        """Space, length of the vector, type."""
        spaces = {"global", "shared", "param", "const", "local"} & set(qualifiers)
        vectors = [int(q[1:]) for q in qualifiers if re.fullmatch(r"v[248]", q)]
        other = [q for q in qualifiers[:-1] if q not in spaces and not re.fullmatch(r"v[248]", q)]
        if "local" in spaces or other:
            raise UnknownError(f"access {qualifiers}")
        space = next(iter(spaces), "generic")
        return ("global" if space == "const" else space), (vectors or [1])[0], qualifiers[-1]

    def _do_ld(self, qualifiers: list[str], operands: list[str]) -> str:
        space, count, kind = self._access(qualifiers)
        if name := self._passed_at(operands[1]):
            return self.set(operands[0], kind, f"*(const {TYPES[kind]}*)({name})")
        place = f"(const {TYPES[kind]}*)load_{space}({self.address(operands[1])}, {count * int(kind[1:]) // 8})"
        registers = split(operands[0].strip("{}"))
        loads = " ".join(self.set(register, kind, f"place[{i}]") for i, register in enumerate(registers))
        return f"{{ const {TYPES[kind]}* place = {place}; {loads} }}"

    def _do_st(self, qualifiers: list[str], operands: list[str]) -> str:
        space, count, kind = self._access(qualifiers)
        if name := self._passed_at(operands[0]):
            return f"*({TYPES[kind]}*)({name}) = {self.value(operands[1], kind)};"
        values = ", ".join(self.value(value, kind) for value in split(operands[1].strip("{}")))
        store = f"store_{space}({self.address(operands[0])}, values, {count * int(kind[1:]) // 8})"
        return f"{{ const {TYPES[kind]} values[] = {{{values}}}; {store}; }}"

    def _passed_at(self, operand: str) -> str:
        """Where a call passes this, as C++; empty if no call does."""
        match = re.fullmatch(r"\[\s*(\w+)\s*(?:\+\s*(\d+))?\s*\]", operand)
        return f"{match[1]} + {match[2] or 0}" if match and match[1] in self.passed else ""

    def _do_call(self, qualifiers: list[str], operands: list[str]) -> str:
        words = re.findall(r"\w+", ",".join(operands))
        if operands[0].startswith("("):
            result, name, *passed = words
            return f"{identifier(name)}({', '.join([result, *passed])});"
        name, *passed = words
        return f"{identifier(name)}({', '.join(passed)});"

    def _do_atom(self, qualifiers: list[str], operands: list[str]) -> str:
        ordering = {"acquire", "release", "acq_rel"}
        spaces = [q for q in qualifiers if q in ("global", "shared")]
        action, kind = [q for q in qualifiers if q not in ordering and q not in spaces]
        values = ", ".join(self.value(operand, kind) for operand in operands[2:])
        place = (
            f"({TYPES[kind]}*)atomic_{(spaces or ['generic'])[0]}({self.address(operands[1])}, {int(kind[1:]) // 8})"
        )
        return self.set(operands[0], kind, f"atomic_{action}<{TYPES[kind]}>({place}, {values})")

    def _do_red(self, qualifiers: list[str], operands: list[str]) -> str:
        return self._do_atom(qualifiers, ["_", *operands])

    def _do_membar(self, qualifiers: list[str], operands: list[str]) -> str:
        return "fence();"

    def _do_fence(self, qualifiers: list[str], operands: list[str]) -> str:
        return "fence();"

    def _do_bar(self, qualifiers: list[str], operands: list[str]) -> str:
        if qualifiers == ["warp"]:
            return f"{self._all(operands[0])} synchronize_warp();"
        if qualifiers or operands != ["0"]:
            raise UnknownError("named barrier")
        return "synchronize_block();"

    _do_barrier = _do_bar

    def _all(self, mask: str) -> str:
        return f"needs_all_lanes({self.value(mask, 'u32')});"

    def _do_shfl(self, qualifiers: list[str], operands: list[str]) -> str:
        mode, _ = qualifiers
        target, _, inside = operands[0].partition("|")
        value, lane, range_ = (self.value(operand, "u32") for operand in operands[1:4])
        flag = self.set(inside, "pred", "true") if inside else ""
        shuffled = self.set(target, "b32", f"shuffle_{mode}({value}, {lane}, {range_})")
        return f"{self._all(operands[4])} {flag} {shuffled}"

    def _do_vote(self, qualifiers: list[str], operands: list[str]) -> str:
        mode, kind = qualifiers
        answer = f"ballot({self.value(operands[1], 'pred')})"
        answer = {"ballot": answer, "any": f"{answer} != 0", "all": f"{answer} == ballot(true)"}[mode]
        return f"{self._all(operands[2])} {self.set(operands[0], kind, answer)}"

    def _do_redux(self, qualifiers: list[str], operands: list[str]) -> str:
        action, kind = qualifiers
        value = f"reduce_{action}<{TYPES[kind]}>({self.value(operands[1], kind)})"
        return f"{self._all(operands[2])} {self.set(operands[0], kind, value)}"

    def _do_cp(self, qualifiers: list[str], operands: list[str]) -> str:
        if qualifiers[-1] == "commit_group":
            return "commit_copies();"
        if qualifiers[-1] == "wait_group":
            return f"wait_for_copies({operands[0]});"
        if qualifiers == ["async", "wait_all"]:
            return "commit_copies(); wait_for_copies(0);"
        if qualifiers != ["async", "shared", "global"]:
            raise UnknownError(f"copy {qualifiers}")
        size = operands[2]
        given = self.value(operands[3], "u32") if operands[3:] else f"{size}u"
        return f"copy_later({self.address(operands[0])}, {self.address(operands[1])}, {size}, {given});"

    def _do_ldmatrix(self, qualifiers: list[str], operands: list[str]) -> str:
        if qualifiers not in (["m8n8", "x4", "shared", "b16"], ["m8n8", "x4", "trans", "shared", "b16"]):
            raise UnknownError(f"matrices {qualifiers}")
        transposed = "true" if "trans" in qualifiers else "false"
        registers = split(operands[0].strip("{}"))
        sets = " ".join(self.set(register, "b32", f"matrices[{i}]") for i, register in enumerate(registers))
        return f"{{ uint32_t matrices[4]; load_matrices<{transposed}>(matrices, {self.address(operands[1])}); {sets} }}"

    def _do_mma(self, qualifiers: list[str], operands: list[str]) -> str:
        kind = qualifiers[-2]
        if qualifiers != ["m16n8k16", "row", "col", "f32", kind, kind, "f32"] or kind not in ("f16", "bf16"):
            raise UnknownError(f"product {qualifiers}")
        sums, left, right, before = (split(operand.strip("{}")) for operand in operands)
        values = ", ".join(self.value(register, "f32") for register in before)
        factors = ", ".join(self.value(register, "b32") for register in left)
        others = ", ".join(self.value(register, "b32") for register in right)
        sets = " ".join(self.set(register, "f32", f"sums[{i}]") for i, register in enumerate(sums))
        return (
            f"{{ float sums[] = {{{values}}}; const uint32_t left[] = {{{factors}}}; "
            f"multiply_accumulate_{kind}(sums, left, {others}); {sets} }}"
        )

    def _do_bra(self, qualifiers: list[str], operands: list[str]) -> str:
        return f"goto {identifier(operands[0])};"

    def _do_ret(self, qualifiers: list[str], operands: list[str]) -> str:
        return "return;"

    _do_exit = _do_ret

    def _do_prefetch(self, qualifiers: list[str], operands: list[str]) -> str:
        return ";"

    def _do_trap(self, qualifiers: list[str], operands: list[str]) -> str:
        return 'fail("the kernel trapped");'


def convert(expression: str, held: str, wanted: str) -> str:
    """The bits of an expression as another type; of another width, cut off or extended by the sign."""
    if held == wanted:
        return expression
    if "float" in (held, wanted) or "double" in (held, wanted):
        return f"bits_as<{wanted}>({expression})"
    return f"({wanted})({expression})"


def compared(comparison: str, left: str, right: str) -> str:
    """A comparison of floats; with `u` at its end, true also where one is NaN."""
    if comparison == "num":
        return f"!std::isunordered({left}, {right})"
    if comparison == "nan":
        return f"std::isunordered({left}, {right})"
    if comparison == "ne":
        return f"({left} != {right} && !std::isunordered({left}, {right}))"
    if comparison == "equ":
        return f"({left} == {right} || std::isunordered({left}, {right}))"
    if comparison in COMPARISONS:
        return f"{left} {COMPARISONS[comparison]} {right}"
    opposite = {"neu": "==", "ltu": ">=", "leu": ">", "gtu": "<=", "geu": "<"}
    return f"!({left} {opposite[comparison]} {right})"


def variables_of(text: str, kernel: Kernel) -> tuple[dict[str, str], int]:
    """Addresses of the module's variables in a kernel, as C++; and the bytes of shared memory that it fixes."""
    addresses, size = {}, 0
    for match in _VARIABLE.finditer(text):
        name = match["name"]
        if match["space"] != "shared":
            addresses[name] = f"(uint64_t){identifier(name)}"
        elif match["count"] == "":
            addresses[name] = "dynamic_shared()"
        elif name in kernel.body:
            size = _multiple(size, int(match["align"]))
            addresses[name] = f"static_shared({size})"
            size += int(match["count"] or 1) * int(match["kind"][1:]) // 8
    return addresses, _multiple(size, 16)


def _multiple(value: int, unit: int) -> int:
    return -(-value // unit) * unit


def translate(text: str, parts: int) -> list[str]:
    """A file of PTX as so many files of C++."""
    text = re.sub(r"//.*", "", text)
    head = ['#include "device.h"', "namespace tubeletx::ptx {\nnamespace {"]
    for match in _VARIABLE.finditer(text):
        if match["space"] != "shared":
            kind, count = TYPES[match["kind"]], match["count"] or 1
            declaration = f"alignas({match['align']}) {kind} {identifier(match['name'])}[{count}]"
            head.append(f"{declaration} = {{{match['values'] or 0}}};")
    head += functions_of(text)
    shares: list[list[Kernel]] = [[] for _ in range(parts)]
    for kernel in sorted(kernels_of(text), key=lambda kernel: -len(kernel.body)):
        min(shares, key=lambda share: sum(len(other.body) for other in share)).append(kernel)
    return [_file(text, head, share) for share in shares]


def _file(text: str, head: list[str], kernels: list[Kernel]) -> str:
    functions, entries = [], []
    for number, kernel in enumerate(kernels):
        variables, shared = variables_of(text, kernel)
        functions.append(Translator(kernel, variables).function(f"void kernel_{number}(const char* parameters)"))
        entries.append(f'    {{"{kernel.symbol}", kernel_{number}, {kernel.size}, {kernel.threads}, {shared}}},')
    table = "\n".join(["const Registration registration({", *entries, "});"])
    return "\n\n".join([*head, *functions, table, "}  // namespace\n}  // namespace tubeletx::ptx\n"])


if __name__ == "__main__":
    source, *targets = sys.argv[1:]
    for target, part in zip(targets, translate(Path(source).read_text(), len(targets)), strict=True):
        Path(target).write_text(part)
