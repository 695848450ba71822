"""A64 instruction words → what they do, as far as a core's pipelines care.

A word's class, the registers that it writes and reads, and the bytes that it moves: enough to schedule a
block of code and to count a mix. It is no disassembler: operands that order nothing are left out, and a
word of an extension that is not told apart counts as its class's commonest member. Layout of the words: Arm
Architecture Reference Manual for A-profile (DDI 0487), chapter C4, "A64 instruction set encoding".
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

VECTOR = 32  # register numbers: 0 to 30 general, 32 to 63 vector, 64 the flags
FLAGS = 64
_ZERO = 31  # reads as 0, or is the stack pointer: orders nothing here

# structures moved by LD1 to LD4 and ST1 to ST4, by their opcode: registers
_MULTIPLE = {0: 4, 2: 4, 4: 3, 6: 3, 7: 1, 8: 2, 10: 2}
_INTERLEAVED = (0, 4, 8)


@dataclass(frozen=True, slots=True)
class Instruction:
    """One word. `wide`: it works on a whole 128-bit register."""

    kind: str
    writes: tuple[int, ...] = ()
    reads: tuple[int, ...] = ()
    wide: bool = False
    moved_bytes: int = 0  # by a load or a store
    registers: int = 1  # that a load or a store fills or empties, a pair of 32 or 64 bits counting once


def _field(word: int, low: int, bits: int) -> int:
    return word >> low & ((1 << bits) - 1)


def _general(number: int) -> tuple[int, ...]:
    return () if number == _ZERO else (number,)


@functools.lru_cache(maxsize=1 << 16)
def decode(word: int) -> Instruction:
    """Return what a word does."""
    group = _field(word, 25, 4)
    if group & 0b1110 == 0b1000:
        return _immediate(word)
    if group & 0b1110 == 0b1010:
        return _branch(word)
    if group & 0b0101 == 0b0100:
        return _memory(word)
    if group & 0b0111 == 0b0101:
        return _general_registers(word)
    if group & 0b0111 == 0b0111:
        return _scalar_float(word) or _vector(word)
    return Instruction("system")


def _immediate(word: int) -> Instruction:
    rd, rn, rm = _general(word & 31), _general(_field(word, 5, 5)), _general(_field(word, 16, 5))
    kind = _field(word, 23, 3)
    if kind in (0, 1):  # ADR, ADRP
        return Instruction("integer", rd)
    sets_flags = (kind == 2 and word >> 29 & 1) or (kind == 4 and _field(word, 29, 2) == 3)
    writes = rd + ((FLAGS,) if sets_flags else ())
    if kind == 5:  # MOVN, MOVZ; MOVK keeps the rest
        return Instruction("integer", writes, rd if _field(word, 29, 2) == 3 else ())
    inserts = kind == 6 and _field(word, 29, 2) == 1  # BFM
    return Instruction("integer", writes, rn + (rm if kind == 7 else ()) + (rd if inserts else ()))


def _branch(word: int) -> Instruction:
    if _field(word, 26, 5) == 0b00101:
        return Instruction("branch")
    if _field(word, 25, 6) in (0b011010, 0b011011):  # CBZ, TBZ
        return Instruction("branch", reads=_general(word & 31))
    if word >> 24 == 0x54:
        return Instruction("branch", reads=(FLAGS,))
    if word >> 25 == 0b1101011:
        return Instruction("branch", reads=_general(_field(word, 5, 5)))
    return Instruction("system")


def _memory(word: int) -> Instruction:
    is_vector, group = word >> 26 & 1, _field(word, 27, 3)
    if is_vector and not word >> 31 and _field(word, 24, 6) == 0b001100:
        return _structures(word)
    if is_vector and not word >> 31 and _field(word, 24, 6) == 0b001101:
        return _lanes(word)
    if _field(word, 24, 6) == 0b001000:  # exclusive, acquire, release
        rt, rn = _general(word & 31), _general(_field(word, 5, 5))
        if word >> 22 & 1:
            return Instruction("load", rt, rn, moved_bytes=1 << (word >> 30))
        return Instruction("store", _general(_field(word, 16, 5)), rn + rt, moved_bytes=1 << (word >> 30))
    if group == 0b011:
        literal = (VECTOR + (word & 31),) if is_vector else _general(word & 31)
        return Instruction("load", literal, moved_bytes=4 << (word >> 30) if is_vector else 8)
    if group == 0b101:
        return _pair(word)
    return _single(word)


def _loaded_or_stored(
    word: int,
    is_load: int,
    data: tuple[int, ...],
    writes_back: int,
    *,
    size: int,
    kind: str = "",
    more: int = 1,
) -> Instruction:
    base = _general(_field(word, 5, 5))
    back = base if writes_back else ()
    name = ("load" if is_load else "store") + kind
    if is_load:
        return Instruction(name, data + back, base, moved_bytes=size, registers=more)
    return Instruction(name, back, base + data, moved_bytes=size, registers=more)


def _structures(word: int) -> Instruction:
    opcode = _field(word, 12, 4)
    count = _MULTIPLE.get(opcode, 1)
    data = tuple(VECTOR + ((word & 31) + i) % 32 for i in range(count))
    size = count * (16 if word >> 30 & 1 else 8)
    kind = "_interleaved" if opcode in _INTERLEAVED else ""
    return _loaded_or_stored(word, word >> 22 & 1, data, word >> 23 & 1, size=size, kind=kind, more=count)


def _lanes(word: int) -> Instruction:
    opcode, is_load = _field(word, 13, 3), word >> 22 & 1
    count = (opcode & 1) * 2 + (word >> 21 & 1) + 1
    data = tuple(VECTOR + ((word & 31) + i) % 32 for i in range(count))
    repeats = opcode >= 6  # LD1R: every lane, so that nothing of the old value stays
    each = 1 << _field(word, 10, 2) if repeats else (1, 2, 4)[opcode >> 1]
    done = _loaded_or_stored(word, is_load, data, word >> 23 & 1, size=count * each, kind="_lane", more=count)
    if is_load and not repeats:
        return Instruction(done.kind, done.writes, done.reads + data, False, done.moved_bytes, count)
    return done


def _pair(word: int) -> Instruction:
    is_vector, size = word >> 26 & 1, word >> 30
    first, second = word & 31, _field(word, 10, 5)
    each = 4 << size if is_vector else (8 if size == 2 else 4)
    data = (VECTOR + first, VECTOR + second) if is_vector else _general(first) + _general(second)
    return _loaded_or_stored(
        word, word >> 22 & 1, data, word >> 23 & 1, size=2 * each, more=2 if each == 16 else 1
    )


def _single(word: int) -> Instruction:
    is_vector, size, opc = word >> 26 & 1, word >> 30, _field(word, 22, 2)
    rt, rm = word & 31, _general(_field(word, 16, 5))
    if not is_vector and size == 3 and opc == 2:
        return Instruction("prefetch", reads=_general(_field(word, 5, 5)))
    each = 16 if is_vector and opc & 2 else 1 << size
    is_load = opc & 1 if is_vector else opc != 0
    data = (VECTOR + rt,) if is_vector else _general(rt)
    if word >> 24 & 1:  # scaled offset
        return _loaded_or_stored(word, is_load, data, 0, size=each)
    form = _field(word, 10, 2)
    if not word >> 21 & 1:
        return _loaded_or_stored(word, is_load, data, form & 1, size=each)
    if form == 2:  # register offset
        done = _loaded_or_stored(word, is_load, data, 0, size=each)
        return Instruction(done.kind, done.writes, done.reads + rm, moved_bytes=each)
    done = _loaded_or_stored(word, 1, data, 0, size=each)  # atomics of ARMv8.1
    return Instruction("load", done.writes, done.reads + rm, moved_bytes=each)


def _general_registers(word: int) -> Instruction:
    rd, rn, rm = _general(word & 31), _general(_field(word, 5, 5)), _general(_field(word, 16, 5))
    group = _field(word, 24, 5)
    if group == 0b11011:
        return Instruction("multiply", rd, rn + rm + _general(_field(word, 10, 5)))
    if group == 0b11010:  # two sources (divide, variable shift), one source, conditional select, carry
        if _field(word, 21, 4) == 0b0010:  # CCMP, CCMN
            return Instruction("integer", (FLAGS,), (*rn, *(() if word >> 11 & 1 else rm), FLAGS))
        if _field(word, 21, 4) != 0b0110:
            return Instruction("integer", rd, (*rn, *rm, FLAGS))
        if word >> 30 & 1:  # one source: CLZ, RBIT, REV
            return Instruction("integer", rd, rn)
        is_division = _field(word, 11, 5) == 1
        return Instruction("divide" if is_division else "integer", rd, rn + rm)
    flags = (FLAGS,) if (_field(word, 29, 2) == 3 if group == 0b01010 else word >> 29 & 1) else ()
    shifted = _field(word, 10, 6) != 0
    return Instruction("shift" if shifted else "integer", rd + flags, rn + rm)


def _scalar_float(word: int) -> Instruction | None:
    """Return a floating-point word on scalars; None for all others."""
    if word >> 30 & 1 or not word >> 28 & 1:
        return None
    # conversions from and to 64-bit general registers have the top bit set
    if word >> 31 and _field(word, 24, 5) != 0b11110:
        return None
    rd, rn, rm = VECTOR + (word & 31), VECTOR + _field(word, 5, 5), VECTOR + _field(word, 16, 5)
    group = _field(word, 24, 5)
    if group == 0b11111:
        return Instruction("multiply_add", (rd,), (rn, rm, VECTOR + _field(word, 10, 5)))
    if group != 0b11110:
        return None
    if not word >> 21 & 1:
        return Instruction("convert", (rd,), (rn,))
    return _SCALAR_FORMS[_field(word, 10, 2)](word, rd, rn, rm)


def _scalar_other(word: int, rd: int, rn: int, rm: int) -> Instruction:
    if word >> 12 & 1:
        return Instruction("vector_move", (rd,))
    if word >> 13 & 1:
        return Instruction("compare", (FLAGS,), (rn, rm))
    if word >> 14 & 1:
        opcode = _field(word, 15, 6)
        kind = "square_root" if opcode == 3 else "vector_move" if opcode < 3 else "convert"
        return Instruction(kind, (rd,), (rn,))
    if _field(word, 16, 3) in (2, 3, 7):  # SCVTF, UCVTF, FMOV from a general register
        return Instruction("from_general", (rd,), _general(_field(word, 5, 5)))
    return Instruction("to_general", _general(word & 31), (rn,))


def _scalar_two(word: int, rd: int, rn: int, rm: int) -> Instruction:
    opcode = _field(word, 12, 4)
    kind = "float_divide" if opcode == 1 else "float_multiply" if opcode in (0, 8) else "float_add"
    return Instruction(kind, (rd,), (rn, rm))


_SCALAR_FORMS: tuple[Callable[[int, int, int, int], Instruction], ...] = (
    _scalar_other,
    lambda word, rd, rn, rm: Instruction("compare", (FLAGS,), (rn, rm, FLAGS)),
    _scalar_two,
    lambda word, rd, rn, rm: Instruction("vector_move", (rd,), (rn, rm, FLAGS)),
)


def _vector(word: int) -> Instruction:
    wide = bool(word >> 30 & 1) and not word >> 28 & 1
    if _field(word, 24, 4) == 0b1110:
        if not word >> 21 & 1:
            return _vector_copy(word, wide)
        if word >> 10 & 1:
            return _three_same(word, wide)
        return _two_misc(word, wide) if word >> 11 & 1 else _three_different(word)
    if word >> 10 & 1:
        return _shift_or_constant(word, wide)
    return _by_element(word, wide)


def _regs(word: int) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    return (VECTOR + (word & 31),), (VECTOR + _field(word, 5, 5),), (VECTOR + _field(word, 16, 5),)


def _vector_copy(word: int, wide: bool) -> Instruction:
    d, n, m = _regs(word)
    if not word >> 10 & 1:
        return Instruction("vector_move", d, n + m, wide)  # ZIP, UZP, TRN, TBL, EXT
    if word >> 15 & 1:
        return Instruction("dot", d, n + m + d, wide)
    if word >> 22 & 1:  # half precision, three registers
        return _half_three_same(word, wide)
    if not word >> 29 & 1:
        opcode = _field(word, 11, 4)
        if opcode in (5, 7):  # SMOV, UMOV
            return Instruction("to_general", _general(word & 31), n)
        if opcode in (1, 3):  # DUP and INS from a general register
            return Instruction(
                "from_general", d, _general(_field(word, 5, 5)) + (d if opcode == 3 else ()), wide
            )
        return Instruction("vector_move", d, n, wide)
    return Instruction("vector_move", d, n + d, wide)


def _half_three_same(word: int, wide: bool) -> Instruction:
    d, n, m = _regs(word)
    opcode = _field(word, 11, 3)
    if opcode == 1:
        return Instruction("multiply_add", d, n + m + d, wide)
    if opcode == 3:
        return Instruction("float_multiply", d, n + m, wide)
    return Instruction("float_add", d, n + m, wide)


def _three_same(word: int, wide: bool) -> Instruction:
    d, n, m = _regs(word)
    opcode, unsigned = _field(word, 11, 5), word >> 29 & 1
    if opcode == 0b11001:
        return Instruction("multiply_add", d, n + m + d, wide)
    if opcode == 0b11011:
        return Instruction("float_multiply", d, n + m, wide)
    if opcode == 0b11111 and unsigned:
        return Instruction("float_divide", d, n + m, wide)
    if opcode >= 0b11000:
        return Instruction("float_add", d, n + m, wide)
    if opcode in (0b10010, 0b10011):  # MLA, MLS; MUL
        return Instruction("vector_multiply", d, n + m + (d if opcode == 0b10010 else ()), wide)
    selects = opcode == 3 and unsigned  # BSL, BIT, BIF
    return Instruction("vector_integer", d, n + m + (d if selects else ()), wide)


def _three_different(word: int) -> Instruction:
    d, n, m = _regs(word)
    opcode = _field(word, 12, 4)
    if opcode in (8, 9, 10, 11):  # SMLAL and its kin
        return Instruction("vector_multiply_long", d, n + m + d, True)
    if opcode in (12, 13, 14):
        return Instruction("vector_multiply_long", d, n + m, True)
    return Instruction("vector_integer", d, n + m + (d if opcode in (5, 7) else ()), True)


def _two_misc(word: int, wide: bool) -> Instruction:
    d, n, _ = _regs(word)
    opcode = _field(word, 12, 5)
    if _field(word, 17, 5) not in (0b10000, 0b11100):
        return Instruction("vector_across", d, n, wide)
    if opcode in (0b11101, 0b11010, 0b11011, 0b11100, 0b10110, 0b10111):
        return Instruction("convert", d, n, wide)
    if opcode == 0b11111 and word >> 29 & 1:
        return Instruction("square_root", d, n, wide)
    # narrowing into the upper half keeps the lower; SADALP, UADALP accumulate
    keeps = opcode == 0b00110 or (opcode in (0b10010, 0b10100) and wide)
    return Instruction("vector_integer", d, n + (d if keeps else ()), wide)


def _shift_or_constant(word: int, wide: bool) -> Instruction:
    d, n, _ = _regs(word)
    if not _field(word, 19, 4) and not word >> 28 & 1:
        return Instruction("vector_move", d, (), wide)
    return Instruction("vector_shift", d, n, wide)


def _by_element(word: int, wide: bool) -> Instruction:
    d, n, m = _regs(word)
    if _field(word, 22, 2) in (0, 1):  # 16-bit elements: only V0 to V15 fit
        m = (VECTOR + _field(word, 16, 4),)
    opcode = _field(word, 12, 4)
    if opcode in (1, 5) or (opcode in (0, 4) and not word >> 29 & 1):  # FMLA, FMLS; FMLAL, FMLSL
        return Instruction("multiply_add", d, n + m + d, wide)
    if opcode == 9:
        return Instruction("float_multiply", d, n + m, wide)
    if opcode in (2, 6, 3, 7):
        return Instruction("vector_multiply_long", d, n + m + d, True)
    if opcode in (10, 11):
        return Instruction("vector_multiply_long", d, n + m, True)
    if opcode == 14:
        return Instruction("dot", d, n + m + d, wide)
    return Instruction("vector_multiply", d, n + m + (d if opcode in (0, 4) else ()), wide)
