# Decides whether the CUDA library is built (TUBELETX_CUDA_ENABLED) and for which architectures.
string(TOLOWER "${TUBELETX_CUDA}" cuda_choice)
if(NOT cuda_choice MATCHES "^(auto|on|off)$")
  message(FATAL_ERROR "tubeletx: TUBELETX_CUDA is '${TUBELETX_CUDA}'; it must be auto, on or off")
endif()

set(TUBELETX_CUDA_ENABLED OFF)
set(TUBELETX_CUDA_VERSION "")
set(TUBELETX_CUDA_ARCHITECTURES_TEXT "")
if(NOT cuda_choice STREQUAL "off")
  find_program(TUBELETX_NVCC nvcc HINTS ENV CUDACXX ENV CUDA_HOME ENV CUDA_PATH /usr/local/cuda PATH_SUFFIXES bin)
  if(cuda_choice STREQUAL "on" AND NOT TUBELETX_NVCC)
    message(FATAL_ERROR "tubeletx: TUBELETX_CUDA is on but nvcc was not found; put it on PATH, set CUDA_HOME, or build "
                        "with TUBELETX_CUDA=off")
  elseif(TUBELETX_NVCC AND cuda_choice STREQUAL "auto" AND NOT TORCH_CUDA_VERSION)
    # Such a torch could not load what would take long to compile.
    message(STATUS "tubeletx: nvcc was found, but torch ${TORCH_VERSION} has no CUDA; TUBELETX_CUDA=on builds all the same")
  elseif(TUBELETX_NVCC)
    set(TUBELETX_CUDA_ENABLED ON)
  endif()
endif()

if(TUBELETX_CUDA_ENABLED)
  set(CMAKE_CUDA_COMPILER "${TUBELETX_NVCC}")
  # Must be known before the language is enabled, else CMake settles on a default of its own.
  if(NOT CMAKE_CUDA_ARCHITECTURES)
    execute_process(COMMAND "${TUBELETX_NVCC}" --list-gpu-code OUTPUT_VARIABLE nvcc_codes)
    set(known "")
    foreach(architecture 80 86 89 90 100 120)
      if(nvcc_codes MATCHES "sm_${architecture}[^0-9]")
        list(APPEND known ${architecture})
      endif()
    endforeach()
    list(TRANSFORM known APPEND "-real" OUTPUT_VARIABLE CMAKE_CUDA_ARCHITECTURES)
    # PTX of the newest for GPUs to come, of the oldest for those between that have no code of their own.
    list(GET known 0 oldest)
    list(GET known -1 newest)
    list(APPEND CMAKE_CUDA_ARCHITECTURES ${oldest}-virtual ${newest}-virtual)
  endif()
  # The products of warpgroups are in code for this very architecture only.
  list(TRANSFORM CMAKE_CUDA_ARCHITECTURES REPLACE "^90(-real)?$" "90a-real")
  enable_language(CUDA)
  find_package(CUDAToolkit REQUIRED)
  set(TUBELETX_CUDA_VERSION "${CMAKE_CUDA_COMPILER_VERSION}")
  list(JOIN CMAKE_CUDA_ARCHITECTURES " " TUBELETX_CUDA_ARCHITECTURES_TEXT)
endif()
message(STATUS "tubeletx: CUDA operators ${TUBELETX_CUDA_ENABLED} ${TUBELETX_CUDA_VERSION} "
               "${TUBELETX_CUDA_ARCHITECTURES_TEXT}")
