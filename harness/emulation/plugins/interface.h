/*
 * What count.c needs of the interface between QEMU and its plugins, in words of our own. The interface has a
 * number; INTERFACE is the one that this QEMU told (interface.py), 1 to 7. It has no versioned symbols: a
 * function that changed keeps its name, so that a plugin must be built for the very number.
 *
 *   2  (QEMU 9.0)  counters that code adds to belong to a processor each; the plain ones are gone
 *   3  (9.1)       an instruction's bytes are copied out, where a pointer to them was returned
 *   7  (11.1)      every callback has data of its own, where some had the plugin's number
 *
 * 4, 5 and 6 changed nothing that is used here. Source: the list of changes and the descriptions of the functions
 * in QEMU's documentation of its plugins. count.c calls the functions at the end, the same for all of them.
 */
#ifndef INTERFACE_H
#define INTERFACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if !defined INTERFACE || INTERFACE < 1 || INTERFACE > 7
#error "expected -DINTERFACE= and a number from 1 to 7"
#endif

#define SEEN_BY_QEMU __attribute__((visibility("default")))

/* Numbers that QEMU gives a meaning: a callback that touches no register; loads and stores; add to a counter. */
enum { NO_REGISTERS = 0, LOADS_AND_STORES = 3, ADD = 0 };

struct qemu_plugin_tb;   /* a block of code, while it is being translated */
struct qemu_plugin_insn; /* an instruction of it */

/* How QEMU's description of itself begins; nothing behind it is read. */
struct about_qemu {
    const char *target;
    struct {
        int oldest, newest; /* of the interface: what it takes, what it is */
    } interface;
};

typedef void on_execution(unsigned cpu, void *data);
typedef void on_access(unsigned cpu, uint32_t kind, uint64_t address, void *data);

size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *block);
uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *block);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *block, size_t index);
void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *insn, on_execution *call, int registers,
                                            void *data);
void qemu_plugin_register_vcpu_mem_cb(struct qemu_plugin_insn *insn, on_access *call, int registers,
                                      int direction, void *data);
bool qemu_plugin_mem_is_store(uint32_t kind);
unsigned qemu_plugin_mem_size_shift(uint32_t kind); /* 2 to the power of it: bytes */

/* Has `*counter` raised by one whenever the block is entered. */
#if INTERFACE >= 2
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *block, on_execution *call, int registers,
                                          void *data);

static void raise_counter(unsigned cpu, void *data)
{
    (void)cpu;
    ++*(uint64_t *)data;
}

static inline void count_passes(struct qemu_plugin_tb *block, uint64_t *counter)
{
    qemu_plugin_register_vcpu_tb_exec_cb(block, raise_counter, NO_REGISTERS, counter);
}
#else
void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *block, int operation, void *counter,
                                              uint64_t operand);

static inline void count_passes(struct qemu_plugin_tb *block, uint64_t *counter)
{
    qemu_plugin_register_vcpu_tb_exec_inline(block, ADD, counter, 1);
}
#endif

/* Returns the instruction's four bytes. */
#if INTERFACE >= 3
size_t qemu_plugin_insn_data(const struct qemu_plugin_insn *insn, void *into, size_t size_bytes);

static inline uint32_t word_of(const struct qemu_plugin_insn *insn)
{
    uint32_t word = 0;
    qemu_plugin_insn_data(insn, &word, sizeof word);
    return word;
}
#else
const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *insn);

static inline uint32_t word_of(const struct qemu_plugin_insn *insn)
{
    uint32_t word;
    memcpy(&word, qemu_plugin_insn_data(insn), sizeof word);
    return word;
}
#endif

/* watch: has `translated`, which count.c defines, called with every block that is translated from now on.
   start_over: throws all translated code away, then watches again; takes hold a few instructions later. */
static void translated(struct qemu_plugin_tb *block);
static uint64_t self; /* the plugin's number, which count.c is told when it is loaded */

#if INTERFACE >= 7
void qemu_plugin_register_vcpu_tb_trans_cb(uint64_t plugin, void (*call)(struct qemu_plugin_tb *, void *),
                                           void *data);
void qemu_plugin_reset(uint64_t plugin, void (*call)(void *), void *data);

static void block_translated(struct qemu_plugin_tb *block, void *data)
{
    (void)data;
    translated(block);
}

static void watch(void)
{
    qemu_plugin_register_vcpu_tb_trans_cb(self, block_translated, NULL);
}

static void watch_again(void *data)
{
    (void)data;
    watch();
}

static inline void start_over(void)
{
    qemu_plugin_reset(self, watch_again, NULL);
}
#else
void qemu_plugin_register_vcpu_tb_trans_cb(uint64_t plugin, void (*call)(uint64_t, struct qemu_plugin_tb *));
void qemu_plugin_reset(uint64_t plugin, void (*call)(uint64_t));

static void block_translated(uint64_t plugin, struct qemu_plugin_tb *block)
{
    (void)plugin;
    translated(block);
}

static void watch(void)
{
    qemu_plugin_register_vcpu_tb_trans_cb(self, block_translated);
}

static void watch_again(uint64_t plugin)
{
    (void)plugin;
    watch();
}

static inline void start_over(void)
{
    qemu_plugin_reset(self, watch_again);
}
#endif

#endif
