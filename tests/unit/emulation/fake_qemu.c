/*
 * Loads the counting plugin as QEMU does and runs a few blocks of code that only pretend to be translated.
 * Its functions are those of one version of the interface (-DINTERFACE=).
 *
 *   fake_qemu LIBRARY NEWEST ARGUMENT...     NEWEST: the version that the plugin is told
 */
#include <dlfcn.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { HINT = 0xd503201f, LOAD = 0xf9400020, STORE = 0xf9000040, ID = 77 };

typedef void executed(unsigned, void *);
typedef void accessed(unsigned, uint32_t, uint64_t, void *);

struct qemu_plugin_insn {
    uint32_t word;
    executed *call;
    accessed *on_access;
    void *data, *access_data;
};

struct qemu_plugin_tb {
    uint64_t address;
    size_t length;
    int translated;
    struct qemu_plugin_insn insns[2];
    executed *call;
    uint64_t *counter;
    void *data;
};

static struct qemu_plugin_tb arm = {0x1000, 1, 0, {{.word = HINT | 96 << 5}}, 0, 0, 0};
static struct qemu_plugin_tb begin = {0x2000, 1, 0, {{.word = HINT | 97 << 5}}, 0, 0, 0};
static struct qemu_plugin_tb body = {0x3000, 2, 0, {{.word = LOAD}, {.word = STORE}}, 0, 0, 0};
static struct qemu_plugin_tb end = {0x4000, 1, 0, {{.word = HINT | 98 << 5}}, 0, 0, 0};
static struct qemu_plugin_tb disarm = {0x5000, 1, 0, {{.word = HINT | 99 << 5}}, 0, 0, 0};
static struct qemu_plugin_tb *const all[] = {&arm, &begin, &body, &end, &disarm};

size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb) { return tb->length; }
uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *tb) { return tb->address; }
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(struct qemu_plugin_tb *tb, size_t i) { return &tb->insns[i]; }
bool qemu_plugin_mem_is_store(uint32_t kind) { return kind >> 8; }
unsigned qemu_plugin_mem_size_shift(uint32_t kind) { return kind & 0xff; }

void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *insn, executed *call, int flags, void *data)
{
    insn->call = flags == 0 ? call : NULL;
    insn->data = data;
}

void qemu_plugin_register_vcpu_mem_cb(struct qemu_plugin_insn *insn, accessed *call, int flags, int which,
                                      void *data)
{
    insn->on_access = flags == 0 && which == 3 ? call : NULL;
    insn->access_data = data;
}

#if INTERFACE >= 2
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *tb, executed *call, int flags, void *data)
{
    tb->call = flags == 0 ? call : NULL;
    tb->data = data;
}
#else
void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *tb, int add, void *counter, uint64_t by)
{
    tb->counter = add == 0 && by == 1 ? counter : NULL;
}
#endif

#if INTERFACE >= 3
size_t qemu_plugin_insn_data(const struct qemu_plugin_insn *insn, void *into, size_t size)
{
    size = size < 4 ? size : 4;
    memcpy(into, &insn->word, size);
    return size;
}
#else
const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *insn) { return &insn->word; }
#endif

#if INTERFACE >= 7
typedef void on_block(struct qemu_plugin_tb *, void *);
typedef void on_reset(void *);
#else
typedef void on_block(uint64_t, struct qemu_plugin_tb *);
typedef void on_reset(uint64_t);
#endif
static on_block *block_call;
static on_reset *reset_call;
static void *block_data, *reset_data;

static uint64_t checked(uint64_t id)
{
    if (id != ID) {
        fprintf(stderr, "the plugin gave %d as its number\n", (int)id);
        exit(3);
    }
    return id;
}

#if INTERFACE >= 7
void qemu_plugin_register_vcpu_tb_trans_cb(uint64_t id, on_block *call, void *data)
{
    block_data = data;
    block_call = checked(id) ? call : NULL;
}

void qemu_plugin_reset(uint64_t id, on_reset *call, void *data)
{
    reset_data = data;
    reset_call = checked(id) ? call : NULL;
}
#else
void qemu_plugin_register_vcpu_tb_trans_cb(uint64_t id, on_block *call) { block_call = checked(id) ? call : NULL; }
void qemu_plugin_reset(uint64_t id, on_reset *call) { reset_call = checked(id) ? call : NULL; }
#endif

static void translate(struct qemu_plugin_tb *tb)
{
    tb->call = NULL;
    tb->counter = NULL;
    for (size_t i = 0; i < tb->length; i++) {
        tb->insns[i].call = NULL;
        tb->insns[i].on_access = NULL;
    }
    tb->translated = 1;
#if INTERFACE >= 7
    block_call(tb, block_data);
#else
    block_call(ID, tb);
#endif
}

/* A reset is carried out once the block is over, as QEMU does: no callback is left but the one it calls. */
static void carry_out_reset(void)
{
    on_reset *call = reset_call;

    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        all[i]->translated = 0;
    }
    reset_call = NULL;
    block_call = NULL;
#if INTERFACE >= 7
    call(reset_data);
#else
    call(ID);
#endif
}

static void run(struct qemu_plugin_tb *tb, uint64_t loaded)
{
    if (!tb->translated) {
        translate(tb);
    }
    if (tb->call) {
        tb->call(0, tb->data);
    }
    if (tb->counter) {
        ++*tb->counter;
    }
    for (size_t i = 0; i < tb->length; i++) {
        struct qemu_plugin_insn *insn = &tb->insns[i];
        if (insn->call) {
            insn->call(0, insn->data);
        }
        if (insn->on_access && insn->word == LOAD) {
            insn->on_access(0, 3, loaded, insn->access_data); /* 8 bytes */
        } else if (insn->on_access && insn->word == STORE) {
            insn->on_access(0, 0x102, 0x200000, insn->access_data); /* 4 bytes */
        }
    }
    if (reset_call) {
        carry_out_reset();
    }
}

int main(int argc, char **argv)
{
    struct {
        const char *target;
        int oldest, newest;
        uint64_t more[4];
    } about = {"aarch64", 0, argc > 2 ? atoi(argv[2]) : 0, {0}};
    void *library = argc > 2 ? dlopen(argv[1], RTLD_NOW) : NULL;

    if (!library) {
        fprintf(stderr, "%s\n", argc > 2 ? dlerror() : "expected a library and a version");
        return 2;
    }
    int *version = dlsym(library, "qemu_plugin_version");
    int (*install)(uint64_t, const void *, int, char **) = dlsym(library, "qemu_plugin_install");
    if (!version || !install || *version != INTERFACE) {
        fprintf(stderr, "the plugin says version %d, expected %d\n", version ? *version : -1, INTERFACE);
        return 2;
    }
    if (install(ID, &about, argc - 3, argv + 3)) {
        return 1;
    }
    run(&body, 0x900000); /* not armed: neither counted nor in the caches */
    run(&arm, 0);
    for (int window = 0; window < 2; window++) {
        run(&begin, 0);
        for (int i = 0; i < 4; i++) {
            run(&body, 0x100000 + 64 * i);
        }
        run(&end, 0);
        if (window == 0) {
            run(&disarm, 0);
        }
    }
    return 0;
}
