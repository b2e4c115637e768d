# Target torch_stable: headers and libraries of the interpreter's torch, without find_package(Torch), which on CUDA
# wheels of torch demands a full CUDA installation even for a library that uses none of it.
execute_process(
  COMMAND "${Python_EXECUTABLE}" -c
          "import os, torch as t; print(os.path.dirname(t.__file__), t.__version__, t.version.cuda or '', sep=';')"
  OUTPUT_VARIABLE torch_answer
  ERROR_VARIABLE torch_error
  RESULT_VARIABLE torch_result
  OUTPUT_STRIP_TRAILING_WHITESPACE)
if(NOT torch_result EQUAL 0)
  message(FATAL_ERROR "tubeletx: ${Python_EXECUTABLE} cannot import torch, whose headers the build needs:\n${torch_error}")
endif()
list(GET torch_answer 0 TORCH_ROOT)
list(GET torch_answer 1 TORCH_VERSION)
list(GET torch_answer 2 TORCH_CUDA_VERSION)  # empty where torch has none
if(NOT EXISTS "${TORCH_ROOT}/include/torch/csrc/stable/library.h")
  message(FATAL_ERROR "tubeletx: torch ${TORCH_VERSION} has no stable ABI headers; install torch 2.10 or newer")
endif()
message(STATUS "tubeletx: torch ${TORCH_VERSION} at ${TORCH_ROOT}")

add_library(torch_stable INTERFACE)
target_include_directories(torch_stable SYSTEM INTERFACE "${TORCH_ROOT}/include")
# The oldest torch whose functions the libraries may use. Without it they would need the torch they were built with.
target_compile_definitions(torch_stable INTERFACE TORCH_TARGET_VERSION=0x020a000000000000)
target_link_directories(torch_stable INTERFACE "${TORCH_ROOT}/lib")
# torch is imported with RTLD_LOCAL, so an extension resolves its symbols only if it names the libraries itself.
target_link_libraries(torch_stable INTERFACE -Wl,--no-as-needed torch torch_cpu -Wl,--as-needed)
