// What Python asks of the build: its versions, and the order of the sampler's settings. The operators lie in libraries
// without Python (csrc/ops, csrc/cpu, csrc/cuda).
#include <pybind11/pybind11.h>

#include "core/sampler_settings.h"

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

py::list sampler_settings() {
  py::list names;
  for (const tubeletx::SettingRule& rule : tubeletx::kSettingRules)
    names.append(py::make_tuple(rule.name, rule.length));
  return names;
}

}  // namespace

PYBIND11_MODULE(_C, module) {
  module.doc() = "Facts about the build of tubeletx's operators.";
  module.def("build_info", &build_info, "Versions and settings of this build; empty strings where CUDA was left out.");
  module.def("sampler_settings", &sampler_settings,
             "Names and lengths of the sampler's settings, in the order of the operator's list of floats.");
}
