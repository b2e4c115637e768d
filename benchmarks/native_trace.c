// Says where a process died: the functions that were running, with libraries and offsets, before a fatal signal ends
// it. Loaded into it beforehand: cc -shared -fPIC -o native_trace.so native_trace.c; LD_PRELOAD=native_trace.so COMMAND
#define _GNU_SOURCE
#include <dlfcn.h>
#include <execinfo.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <ucontext.h>
#include <unistd.h>

// Standard error as it was at first: tests put a file in its place.
static int output = STDERR_FILENO;

static void say(const char* text) {
  if (write(output, text, strlen(text)) < 0) return;
}

static void trace(int number, siginfo_t* info, void* context) {
  // Restored to its default on entry, so that raising it again ends the process.
  void* frames[64];
  char line[256];
  snprintf(line, sizeof line, "\nnative trace: signal %d, code %d, at address %p\n", number, info->si_code,
           info->si_addr);
  say(line);
#ifdef __x86_64__
  const greg_t* registers = ((const ucontext_t*)context)->uc_mcontext.gregs;
  static const struct {
    const char* name;
    int index;
  } kShown[] = {{"rip", REG_RIP}, {"rsp", REG_RSP}, {"rax", REG_RAX}, {"rbx", REG_RBX}, {"rcx", REG_RCX},
                {"rdx", REG_RDX}, {"rdi", REG_RDI}, {"rsi", REG_RSI}, {"rbp", REG_RBP}};
  for (size_t i = 0; i < sizeof kShown / sizeof *kShown; ++i) {
    snprintf(line, sizeof line, "  %s %#llx", kShown[i].name, (unsigned long long)registers[kShown[i].index]);
    say(line);
  }
  Dl_info place;
  if (dladdr((void*)registers[REG_RIP], &place) && place.dli_fname != NULL) {
    snprintf(line, sizeof line, "\n  in %s, +%#llx, %s\n", place.dli_fname,
             (unsigned long long)registers[REG_RIP] - (unsigned long long)place.dli_fbase,
             place.dli_sname != NULL ? place.dli_sname : "no symbol");
    say(line);
  }
#else
  (void)context;
#endif
  backtrace_symbols_fd(frames, backtrace(frames, 64), output);
  raise(number);
}

__attribute__((constructor)) static void watch(void) {
  const int own = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 0);
  if (own >= 0) output = own;
  void* first[1];
  backtrace(first, 1);  // loads the unwinder, which a signal handler must not
  struct sigaction action = {.sa_sigaction = trace, .sa_flags = SA_SIGINFO | SA_RESETHAND | SA_NODEFER};
  const int fatal[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT};
  for (size_t i = 0; i < sizeof fatal / sizeof *fatal; ++i) sigaction(fatal[i], &action, NULL);
}
