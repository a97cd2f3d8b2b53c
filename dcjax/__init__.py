"""dcjax: dataset condensation in JAX, as pure functions."""
