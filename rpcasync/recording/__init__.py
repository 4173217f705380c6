"""The file of recorded calls: its lines, who writes them, and who reads them."""
