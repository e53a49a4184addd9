"""Built bitstreams, found by PYNQ (entry point ``pynq.overlays``) and by :mod:`ditto_zynq.hls.bitstreams`. None is built yet."""
