"""A script trial that does nothing: reads its parameters and reports a number."""

import nni

parameters = nni.get_next_parameter()
nni.report_intermediate_result(parameters["x"])
nni.report_final_result(parameters["x"])
