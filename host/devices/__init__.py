"""Whatever runs programs: the emulator, the C simulation, boards, boards over the network, boards that are not there."""
