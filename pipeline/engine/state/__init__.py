"""What outlives a process: snapshots of streams, and what is made of them at the start."""
