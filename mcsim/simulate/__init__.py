"""What a truth draws: effects, residuals, responses, losses."""
