"""The demo's simulated cohort: patients, rooms, signs, pictures, files."""
