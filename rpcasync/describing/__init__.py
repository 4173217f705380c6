"""What servers tell of their procedures, and the programs and documents that are made of it."""
