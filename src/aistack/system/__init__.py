"""The three doors to the machine: programs (`run`), files (`files`) and ports (`probe`)."""
