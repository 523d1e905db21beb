"""The record and the waist of the hourglass: schema, store, queue, datasets, ratings, raters."""
