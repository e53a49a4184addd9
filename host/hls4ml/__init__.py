"""The hls4ml backend ``Ditto``. Needs hls4ml."""
