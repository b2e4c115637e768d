// Importing this module registers the CPU operators with torch; it also says how it was built.
#include <pybind11/pybind11.h>

namespace py = pybind11;

namespace {

py::dict build_info() {
  py::dict info;
  info["version"] = TUBELETX_VERSION;
  info["torch"] = TUBELETX_TORCH_VERSION;
  info["cuda"] = TUBELETX_CUDA_VERSION;
  info["cuda_architectures"] = TUBELETX_CUDA_ARCHITECTURES;
  info["compiler"] = __VERSION__;
  return info;
}

}  // namespace

PYBIND11_MODULE(_C, module) {
  module.doc() = "Compiled operators of tubeletx.";
  module.def("build_info", &build_info, "Versions and settings of this build; empty strings where CUDA was left out.");
}
