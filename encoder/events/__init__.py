"""What happened when: annotation lists of EEG systems, and the parts of recordings that they point to."""
