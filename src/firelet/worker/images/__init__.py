"""Container images: where they are found, how they are fetched, and how their layers unpack."""
