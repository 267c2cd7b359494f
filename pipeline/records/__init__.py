"""What leaves the pipeline: schema, translation from results, bytes."""
