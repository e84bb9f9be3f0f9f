"""One ring of the secure sum: keys, masks, packing, and both halves of the protocol."""
