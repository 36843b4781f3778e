"""JAX and optax, real digits, and a run that outlives its sessions. Stop it any way you like and start it again."""

import jax
import jax.numpy as jnp
import optax
from sklearn.datasets import load_digits

import outlast

images, labels = load_digits(return_X_y=True)
images, labels = jnp.asarray(images / 16), jnp.asarray(labels)
optimizer = optax.adamw(1e-3)
order = outlast.BatchSampler(len(labels), batch_size=64)


def init(key):
    one, two = jax.random.split(key)
    params = {"hidden": jax.random.normal(one, (64, 64)) / 8, "out": jax.random.normal(two, (64, 10)) / 8}
    return params, optimizer.init(params)


@jax.jit
def update(state, x, y):
    def loss_of(params):
        logits = jax.nn.relu(x @ params["hidden"]) @ params["out"]
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

    params, opt_state = state
    loss, grads = jax.value_and_grad(loss_of)(params)
    changes, opt_state = optimizer.update(grads, opt_state, params)
    return (optax.apply_updates(params, changes), opt_state), loss


with outlast.open_run("jax_10_lines", total_steps=600) as run:
    run.track(data=order)
    state = run.restore(init(jax.random.key(0)))
    for step in run.steps():
        batch = next(order)
        state, loss = update(state, images[batch], labels[batch])
        run.offer(state, loss=loss)
