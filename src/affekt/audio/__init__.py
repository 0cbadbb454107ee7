"""Audio in: read one file, decode many, detect voice activity."""
