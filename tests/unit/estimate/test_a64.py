"""Words of A64 as an assembler writes them, and what the pipelines must know of each."""

from __future__ import annotations

import pytest

from harness.estimate.a64 import FLAGS, VECTOR, decode

V = VECTOR


@pytest.mark.parametrize(
    ("word", "kind", "writes", "reads"),
    [
        (0x8B020020, "integer", {0}, {1, 2}),  # add x0, x1, x2
        (0xF100009F, "integer", {FLAGS}, {4}),  # cmp x4, #0
        (0xF2800020, "integer", {0}, {0}),  # movk x0, #1
        (0x9B027C20, "multiply", {0}, {1, 2}),  # mul x0, x1, x2
        (0x9AC20820, "divide", {0}, {1, 2}),  # udiv x0, x1, x2
        (0x54000040, "branch", set(), {FLAGS}),  # b.eq
        (0xB4000040, "branch", set(), {0}),  # cbz x0
        (0x4E22CC20, "multiply_add", {V}, {V, V + 1, V + 2}),  # fmla v0.4s, v1.4s, v2.4s
        (0x4F821020, "multiply_add", {V}, {V, V + 1, V + 2}),  # fmla v0.4s, v1.4s, v2.s[0]
        (0x4E420C20, "multiply_add", {V}, {V, V + 1, V + 2}),  # fmla v0.8h, v1.8h, v2.8h
        (0x6E22DC20, "float_multiply", {V}, {V + 1, V + 2}),  # fmul v0.4s, v1.4s, v2.4s
        (0x6E22FC20, "float_divide", {V}, {V + 1, V + 2}),  # fdiv v0.4s, v1.4s, v2.4s
        (0x0E628020, "vector_multiply_long", {V}, {V, V + 1, V + 2}),  # smlal v0.4s, v1.4h, v2.4h
        (0x4E829420, "dot", {V}, {V, V + 1, V + 2}),  # sdot v0.4s, v1.16b, v2.16b
        (0x4E606910, "vector_integer", {V + 16}, {V + 8, V + 16}),  # sadalp v16.4s, v8.8h
        (0x4E040C20, "from_general", {V}, {1}),  # dup v0.4s, w1
        (0x0E043C20, "to_general", {0}, {V + 1}),  # umov w0, v1.s[0]
        (0x1F020C20, "multiply_add", {V}, {V + 1, V + 2, V + 3}),  # fmadd s0, s1, s2, s3
    ],
)
def test_a_word_is_of_its_kind_and_orders_what_it_must(word, kind, writes, reads):
    done = decode(word)
    assert (done.kind, set(done.writes), set(done.reads)) == (kind, writes, reads)


@pytest.mark.parametrize(
    ("word", "kind", "moved_bytes", "registers", "moves_address"),
    [
        (0x3DC00020, "load", 16, 1, False),  # ldr q0, [x1]
        (0xAD400420, "load", 32, 2, False),  # ldp q0, q1, [x1]
        (0xA9400820, "load", 16, 1, False),  # ldp x0, x2, [x1]
        (0x4CDF2820, "load", 64, 4, True),  # ld1 {v0.4s-v3.4s}, [x1], #64
        (0x4C400820, "load_interleaved", 64, 4, False),  # ld4 {v0.4s-v3.4s}, [x1]
        (0x4D40C820, "load_lane", 4, 1, False),  # ld1r {v0.4s}, [x1]
        (0x3C810420, "store", 16, 1, True),  # str q0, [x1], #16
        (0x39000020, "store", 1, 1, False),  # strb w0, [x1]
        (0xF9400020, "load", 8, 1, False),  # ldr x0, [x1]
        (0xF8626820, "load", 8, 1, False),  # ldr x0, [x1, x2]
    ],
)
def test_loads_and_stores_tell_what_they_move(word, kind, moved_bytes, registers, moves_address):
    done = decode(word)
    assert (done.kind, done.moved_bytes, done.registers) == (kind, moved_bytes, registers)
    assert 1 in done.reads
    assert (1 in done.writes) is moves_address


def test_a_vector_of_half_the_width_is_not_wide():
    assert decode(0x4E22CC20).wide
    assert not decode(0x0E22CC20).wide  # fmla v0.2s


def test_every_word_is_of_some_kind_that_the_cores_know():
    from harness.estimate.cores import CORES

    known = [set(core.work) for core in CORES.values()]
    for high in range(0, 1 << 16, 7):  # every group, with a changing rest
        kind = decode(high << 16 | (high * 0x9E37 & 0xFFFF)).kind
        assert all(kind in kinds for kinds in known), f"{high:04x}: {kind}"
