"""Our vector environments in the form that other packages' algorithms take.

    from simscaleai.rl.adapters.stable_baselines3 import SB3VecEnv
    from simscaleai.rl.adapters.rsl_rl import RslRlVecEnv

Packages that take Gymnasium's environments need no adapter. Neither package is a dependency: install the one
that you use.
"""
