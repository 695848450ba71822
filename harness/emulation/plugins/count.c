/*
 * Counts how often each block of guest code runs between two marks, what it loads and stores, and which lines
 * of 64 bytes a simple model of the board's caches misses. harness/estimate/counts.py reads what it writes.
 *
 * The guest marks a window by hints that no processor gives a meaning (they do nothing elsewhere):
 *   HINT #96  arm: instrument code from here on; without it the plugin only looks at code when it is translated
 *   HINT #97  begin: counts start from zero. The caches keep what they hold: a warm-up before it warms them
 *   HINT #98  end: the counts are written
 *   HINT #99  disarm
 * Arming and disarming throw away all translated code, and take hold a few instructions later.
 *
 * Arguments: out=FILE, then one cache=BYTES:WAYS a level, then tlb=ENTRIES:WAYS. One virtual processor.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "interface.h"

SEEN_BY_QEMU int qemu_plugin_version = INTERFACE;

enum { FORMAT = 1, LEVELS = 3, LINE_BITS = 6, PAGE_BITS = 12, STREAMS = 16, LONGEST = 512, BUCKETS = 1 << 16 };
enum { ARM = 96, BEGIN = 97, END = 98, DISARM = 99 };

struct counts {
    uint64_t bytes[2], accesses[2]; /* loads, stores */
    uint64_t missed[LEVELS][2];
    uint64_t streamed[LEVELS];
    uint64_t pages[2]; /* missed in the first level of the TLB, in the last */
};

struct block {
    struct block *next, *in_bucket;
    uint64_t address, passes;
    uint32_t id, length;
    int written;
    struct counts counts;
    uint32_t words[];
};

struct cache {
    uint32_t sets, ways;
    uint64_t *lines; /* of a set: the one used last comes first */
};

static struct block *blocks, *buckets[BUCKETS];
static uint32_t n_blocks;
static struct cache levels[LEVELS], tlb[2];
static int n_levels;
static uint64_t streams[LEVELS][STREAMS];
static unsigned next_stream[LEVELS];
static uint64_t last_line = UINT64_MAX, last_page = UINT64_MAX;
static int armed, counting, windows;
static FILE *out;

/* Returns whether the set held `line`, and makes it the one used last. */
static int touch(struct cache *cache, uint64_t line)
{
    uint64_t *set = cache->lines + (size_t)(line % cache->sets) * cache->ways;
    uint32_t way = 0;

    if (set[0] == line) {
        return 1;
    }
    while (way < cache->ways - 1 && set[way] != line) {
        way++;
    }
    int held = set[way] == line;
    memmove(set + 1, set, way * sizeof *set);
    set[0] = line;
    return held;
}

/* Returns whether a miss lies beside one of the last few streams: what a prefetcher would have fetched. */
static int is_streamed(int level, uint64_t line)
{
    for (int i = 0; i < STREAMS; i++) {
        uint64_t ahead = line - streams[level][i];
        if (ahead == 1 || ahead == 2 || ahead == UINT64_MAX) {
            streams[level][i] = line;
            return 1;
        }
    }
    streams[level][next_stream[level]++ % STREAMS] = line;
    return 0;
}

static void accessed(unsigned cpu, uint32_t kind, uint64_t address, void *data)
{
    struct counts *counts = &((struct block *)data)->counts;
    int is_store = qemu_plugin_mem_is_store(kind);
    uint64_t line = address >> LINE_BITS, page = address >> PAGE_BITS;

    counts->bytes[is_store] += UINT64_C(1) << qemu_plugin_mem_size_shift(kind);
    counts->accesses[is_store]++;
    if (line == last_line) {
        return;
    }
    last_line = line;
    if (page != last_page) {
        last_page = page;
        if (!touch(&tlb[0], page)) {
            counts->pages[0]++;
            counts->pages[1] += !touch(&tlb[1], page);
        }
    }
    for (int level = 0; level < n_levels && !touch(&levels[level], line); level++) {
        counts->missed[level][is_store]++;
        counts->streamed[level] += is_streamed(level, line);
    }
}

static void begin(unsigned cpu, void *data)
{
    for (struct block *block = blocks; block; block = block->next) {
        block->passes = 0;
        memset(&block->counts, 0, sizeof block->counts);
    }
    counting = 1;
}

static void write_block(struct block *block)
{
    const struct counts *c = &block->counts;

    if (!block->written) {
        block->written = 1;
        fprintf(out, "B %" PRIu32 " %" PRIx64 " ", block->id, block->address);
        for (uint32_t i = 0; i < block->length; i++) {
            fprintf(out, "%08" PRIx32, block->words[i]);
        }
        fputc('\n', out);
    }
    fprintf(out, "C %" PRIu32 " %" PRIu64, block->id, block->passes);
    fprintf(out, " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64, c->bytes[0], c->bytes[1], c->accesses[0],
            c->accesses[1]);
    for (int level = 0; level < LEVELS; level++) {
        fprintf(out, " %" PRIu64 " %" PRIu64, c->missed[level][0], c->missed[level][1]);
    }
    for (int level = 0; level < LEVELS; level++) {
        fprintf(out, " %" PRIu64, c->streamed[level]);
    }
    fprintf(out, " %" PRIu64 " %" PRIu64 "\n", c->pages[0], c->pages[1]);
}

static void end(unsigned cpu, void *data)
{
    if (!counting) {
        return;
    }
    counting = 0;
    fprintf(out, "W %d\n", windows++);
    for (struct block *block = blocks; block; block = block->next) {
        if (block->passes) {
            write_block(block);
        }
    }
    fputs("E\n", out);
    fflush(out);
}

static void set_armed(unsigned cpu, void *data)
{
    int wanted = data != NULL;

    if (wanted != armed) {
        armed = wanted;
        counting = 0;
        start_over();
    }
}

/* Returns the block of this code at this address, whether or not it was met before. */
static struct block *block_of(uint64_t address, const uint32_t *words, size_t length)
{
    uint64_t hash = address;
    for (size_t i = 0; i < length; i++) {
        hash = (hash ^ words[i]) * UINT64_C(0x9E3779B97F4A7C15); /* 2^64 ÷ the golden ratio */
    }
    struct block **bucket = &buckets[hash >> 48];
    for (struct block *block = *bucket; block; block = block->in_bucket) {
        if (block->address == address && block->length == length &&
            !memcmp(block->words, words, length * sizeof *words)) {
            return block;
        }
    }
    struct block *block = calloc(1, sizeof *block + length * sizeof *words);
    if (!block) {
        fputs("count: out of memory\n", stderr);
        abort();
    }
    block->address = address;
    block->length = (uint32_t)length;
    block->id = n_blocks++;
    memcpy(block->words, words, length * sizeof *words);
    block->in_bucket = *bucket;
    *bucket = block;
    block->next = blocks;
    blocks = block;
    return block;
}

static void watch_marks(struct qemu_plugin_insn *insn, uint32_t word)
{
    switch (word ^ UINT32_C(0xd503201f)) { /* HINT #0 */
    case ARM << 5:
        qemu_plugin_register_vcpu_insn_exec_cb(insn, set_armed, NO_REGISTERS, &armed);
        break;
    case DISARM << 5:
        qemu_plugin_register_vcpu_insn_exec_cb(insn, set_armed, NO_REGISTERS, NULL);
        break;
    case BEGIN << 5:
        qemu_plugin_register_vcpu_insn_exec_cb(insn, begin, NO_REGISTERS, NULL);
        break;
    case END << 5:
        qemu_plugin_register_vcpu_insn_exec_cb(insn, end, NO_REGISTERS, NULL);
        break;
    }
}

static void translated(struct qemu_plugin_tb *tb)
{
    size_t length = qemu_plugin_tb_n_insns(tb);
    uint32_t words[LONGEST];

    if (length > LONGEST) { /* QEMU's own limit */
        abort();
    }
    for (size_t i = 0; i < length; i++) {
        struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);
        words[i] = word_of(insn);
        watch_marks(insn, words[i]);
    }
    if (!armed) {
        return;
    }
    struct block *block = block_of(qemu_plugin_tb_vaddr(tb), words, length);
    count_passes(tb, &block->passes);
    for (size_t i = 0; i < length; i++) {
        qemu_plugin_register_vcpu_mem_cb(qemu_plugin_tb_get_insn(tb, i), accessed, NO_REGISTERS,
                                         LOADS_AND_STORES, block);
    }
}

/* Returns whether a cache of so many entries can be made. */
static int make(struct cache *cache, uint32_t entries, uint32_t ways)
{
    if (!ways || !entries || entries % ways) {
        return 0;
    }
    cache->ways = ways;
    cache->sets = entries / ways;
    cache->lines = malloc(entries * sizeof *cache->lines);
    if (!cache->lines) {
        return 0;
    }
    memset(cache->lines, 0xff, entries * sizeof *cache->lines);
    return 1;
}

SEEN_BY_QEMU int qemu_plugin_install(uint64_t id, const struct about_qemu *qemu, int argc, char **argv)
{
    if (qemu->interface.newest != INTERFACE) { /* what a function expects may have changed under its name */
        fprintf(stderr, "count: built for version %d of QEMU's plugin interface, this QEMU has %d\n", INTERFACE,
                qemu->interface.newest);
        return 1;
    }
    self = id;
    for (int i = 0; i < argc; i++) {
        uint32_t size, ways;
        if (!strncmp(argv[i], "out=", 4)) {
            out = fopen(argv[i] + 4, "w");
        } else if (sscanf(argv[i], "cache=%" SCNu32 ":%" SCNu32, &size, &ways) == 2 && n_levels < LEVELS) {
            if (!make(&levels[n_levels++], size >> LINE_BITS, ways)) {
                fprintf(stderr, "count: %s: expected sets of whole lines\n", argv[i]);
                return 1;
            }
        } else if (sscanf(argv[i], "tlb=%" SCNu32 ":%" SCNu32, &size, &ways) == 2) {
            if (!make(&tlb[1], size, ways)) {
                fprintf(stderr, "count: %s: expected a multiple of the ways\n", argv[i]);
                return 1;
            }
        } else {
            fprintf(stderr, "count: unknown argument %s; there are out, cache and tlb\n", argv[i]);
            return 1;
        }
    }
    if (!out || !n_levels || !tlb[1].ways || !make(&tlb[0], 32, 32)) {
        fputs("count: expected out=FILE that can be written, cache=BYTES:WAYS and tlb=ENTRIES:WAYS\n", stderr);
        return 1;
    }
    fprintf(out, "H %d %d\n", FORMAT, n_levels);
    fflush(out);
    watch();
    return 0;
}
