"""Reading files: volumes and their masks, in whichever format they come."""
