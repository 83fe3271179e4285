"""What an x86-64 machine does without an operating system: frames, TLB, page walk, interrupts."""
