"""OpenVINO models: the view, the surgery, and the runs."""
