"""What a viewer may ask of recorded attention, and the exact answers."""
