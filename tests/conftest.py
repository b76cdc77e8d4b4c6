"""What holds for all tests."""


def pytest_configure(config):
    # scikit-learn 1.6 hands scipy options that scipy has deprecated since; remove when it is 1.7.
    config.addinivalue_line(
        "filterwarnings", "ignore:scipy.optimize. The .disp. and .iprint.:DeprecationWarning"
    )
