"""The three tasks of the Reason-RFT benchmark; a fourth is one more class like these (docs/tasks.md)."""
