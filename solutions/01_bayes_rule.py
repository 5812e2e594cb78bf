# %% [markdown]
# # Exercises 01: Bayes' rule for scores
#
# Each exercise asks you to predict something, then to write one small function. The cell below your function checks
# it: it compares your answer with the exact one on many inputs and, if it can, tells you which mistake it sees.
# A wrong answer never stops the notebook: it goes on with the library's version and says so.

# %%
import torch
from torch import Tensor

from minidiff.course import check, hint

# %% [markdown]
# ## Exercise 01.1: Bayes' rule for scores
#
# Difficulty ●○○○○ · Importance ●●●●● · 5 minutes · 2 points · `01-posterior-score`
#
# **Predict first.** At w = 0, what should be left of the formula? And at w = 1? Write both down before you code.
#
# **Derivation.** We want the score of p(x|y), the direction in which x becomes more likely *given* the condition y.
#
# 1. Bayes' rule: log p(x|y) = log p(x) + log p(y|x) − log p(y).
# 2. Differentiate with respect to x. p(y) does not contain x, so its term vanishes:
#    ∇ log p(x|y) = ∇ log p(x) + ∇ log p(y|x).
# 3. Let a strength w weigh the term that speaks of y: ∇ log p(x) + w·∇ log p(y|x).
#
# In code: ∇ log p(x) is `prior_score`, ∇ log p(y|x) is `likelihood_score`, both of shape (B, …).


# %% nbgrader={"schema_version": 3, "grade": false, "grade_id": "01-posterior-score", "locked": false, "solution": true, "task": false}
def posterior_score(prior_score: Tensor, likelihood_score: Tensor, w: float) -> Tensor:
    """∇ log p(x|y), the likelihood weighed by w.

    prior_score, likelihood_score: (B, …), same dtype.  w: any number.  Returns (B, …), same dtype.
    """
    ### BEGIN SOLUTION
    # The scores add, as the logarithms do; w weighs the likelihood alone. At w = 0 the prior's score must be left.
    return prior_score + w * likelihood_score
    ### END SOLUTION


# %% nbgrader={"schema_version": 3, "grade": true, "grade_id": "01-posterior-score-check", "locked": true, "points": 2, "solution": false, "task": false}
result = check("01-posterior-score", posterior_score)
checked_posterior_score = result.use
result

# %% [markdown]
# Stuck? Take away the `#` and run the cell: each run gives a stronger hint, three in all.

# %%
# hint("01-posterior-score")

# %% [markdown]
# **Use it.** A standard normal prior and the observation y = x + noise of variance 1: the scores are −x and y − x,
# and the exact conditional is N(y/2, 1/2), whose score is −2·(x − y/2).

# %%
x, y = torch.linspace(-3, 3, 7, dtype=torch.float64)[:, None], 1.0
exact = -2 * (x - y / 2)
difference = (checked_posterior_score(-x, y - x, w=1.0) - exact).abs().max()
print(f"largest difference from the exact conditional score: {difference:.1e}")
assert difference < 1e-12

# %% [markdown]
# **Want more?** At w = 2, which Gaussian has the score you get? Work it out by hand, then check it here.
