"""A calibration of one's own: a set of networks on a real board and on an emulated one."""
