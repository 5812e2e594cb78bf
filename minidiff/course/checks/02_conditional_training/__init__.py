"""The exercises of chapter 02, one a file; `EXERCISES` has them in the notebook's order."""

from . import ddim_step, heun_step, loss_weights, observed_order, velocity_loss, x0_and_eps

EXERCISES = tuple(
    module.EXERCISE for module in (velocity_loss, x0_and_eps, loss_weights, ddim_step, heun_step, observed_order)
)
