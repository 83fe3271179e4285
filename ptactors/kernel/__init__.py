"""What Linux does: locks, RCU, page tables, mmu_gather, TLB flush, faults, zap, reclaim."""
