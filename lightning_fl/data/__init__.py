"""What a data module is: patients, splits, samples and whole scans."""
