"""What every call passes: who calls, what they may ask, how often, and what they are shown."""
