"""One image -> one answer, for every caller: fields, image, plan, seeds, samples, answer."""
