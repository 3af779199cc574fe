"""The operator's location template: what is understood, and what is refused before anything is rendered."""

import pytest

from rayproxy.nginx.render import routed
from rayproxy.nginx.samples import SAMPLES, files
from rayproxy.nginx.template_loader import TemplateChoice
from rayproxy.nginx.templates import FOLDER, MAX_TEMPLATE_BYTES, TemplateError, check_location, load_location
from tests.support.routes import CONF

GOOD = "location ^~ /x/{{ .Name }}/ { proxy_pass http://{{ .ClusterIP }}:{{ .Port }}/; } # {{ .Namespace }}"


def rendered(text: str) -> str:
    return check_location("t", text).render({"Name": "chat", "Namespace": "ns", "ClusterIP": "10.0.0.1", "Port": 8000})


@pytest.mark.parametrize(
    "text", [GOOD, GOOD.replace(".", ""), GOOD.replace("{{ .", "{{."), GOOD.replace("{{ ", "{{- ")]
)
def test_variables_are_understood_with_and_without_gos_dots(text):
    text = text.replace("{{ ClusterIP", "{{ClusterIP")
    assert "10.0.0.1:8000" in rendered(text).replace(" ", "")


def test_a_condition_is_understood():
    text = '{% if .Name == "chat" %}a{% elif Port > 1 and not Namespace %}b{% else %}c{% endif %}'
    assert rendered(text) == "a"


def test_the_regex_template_has_the_documented_words():
    text = load_location("regex").text
    assert text.splitlines()[0] == " location ~ /apis/rayservice/{{ Name }}/(.*) {"
    assert "     proxy_pass $target$1$is_args$args;\n     proxy_http_version 1.1;\n" in text


def test_the_old_name_of_the_regex_template_is_still_taken():
    assert load_location("documented") == load_location("regex")


def test_no_location_but_that_of_the_regex_template_has_fields_of_its_own():
    files = [path.name for path in FOLDER.glob("ray-*.j2") if "proxy_set_header" in path.read_text()]
    assert files == ["ray-location.regex.conf.j2"]


REFUSED = [
    ("{% for x in Name %}{{ x }}{% endfor %}", "line 1: for is not allowed"),
    ("\n\n{{ Name | upper }}", "line 3: filter is not allowed"),
    ("{{ Name.upper() }}", "is not allowed"),
    ("{{ Name.__class__ }}", "getattr is not allowed"),
    ("{{ Name[0] }}", "getitem is not allowed"),
    ("{{ Name * 9 }}", "mul is not allowed"),
    ("{{ Name ~ Port }}", "concat is not allowed"),
    ("{% set Name = 1 %}", "is not allowed"),
    ("{% include '/etc/passwd' %}", "include is not allowed"),
    ("{% import 'x' as Name %}", "import is not allowed"),
    ("{% macro Name() %}{% endmacro %}", "macro is not allowed"),
    (
        "{{ Password }}",
        (
            "no variable Password; there are ClusterIP, Host, Kind, Lighter, Name, Namespace, "
            "Percent, Port, StreamBody, Trusted"
        ),
    ),
    ("{{ self }}", "no variable self"),
    ("{{ .name }}", "line 1"),
    ("\n{{ Name", "line 2"),
    ("{% if Name %}", "Unexpected end of template"),
    ("{{ [Name] }}", "list is not allowed"),
]


@pytest.mark.fault(30)
@pytest.mark.parametrize(("text", "words"), REFUSED)
def test_what_is_more_than_variables_and_conditions_is_refused_with_its_line(text, words):
    with pytest.raises(TemplateError) as refused:
        check_location("mine.j2", text)
    assert str(refused.value).startswith("the location template mine.j2, line ")
    assert words in str(refused.value)


@pytest.mark.fault(30)
@pytest.mark.timeout(10)
@pytest.mark.parametrize("text", ["{{ 10 ** 10 ** 10 }}", "{{ 'a' * 99999999999 }}", "{{ range(10**12) | list }}"])
def test_an_expression_that_would_never_end_is_refused_before_it_is_computed(text):
    with pytest.raises(TemplateError, match="is not allowed"):
        check_location("t", text)


@pytest.mark.fault(30)
@pytest.mark.parametrize("text", ["{{ " + "(" * 30_000 + "Name", "{% if Name %}" * 4_000])
def test_a_template_that_nests_too_deep_is_refused(text):
    with pytest.raises(TemplateError):
        check_location("t", text)


@pytest.mark.fault(30)
def test_a_template_that_fails_while_it_renders_is_named():
    with pytest.raises(TemplateError, match=r"the location template t fails for .*'<' not supported"):
        rendered('{{ Port < "a" }}')


@pytest.mark.fault(30)
def test_a_file_that_cannot_be_a_template_is_refused(tmp_path):
    file = tmp_path / "t"
    with pytest.raises(TemplateError, match=f"{file} cannot be read: No such file"):
        load_location(str(file))
    file.write_bytes(b"x" * (MAX_TEMPLATE_BYTES + 1))
    with pytest.raises(TemplateError, match=f"is larger than {MAX_TEMPLATE_BYTES} bytes"):
        load_location(str(file))
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(TemplateError, match="is not UTF-8"):
        load_location(str(file))
    with pytest.raises(TemplateError, match="Is a directory"):
        load_location(str(tmp_path))


@pytest.mark.fault(30)
@pytest.mark.timeout(10)
def test_an_endless_file_is_too_large():
    with pytest.raises(TemplateError, match="is larger than"):
        load_location("/dev/zero")


class Check:
    """Refuse the templates that hold `bad`; fail on those that hold `broken`."""

    def __init__(self):
        self.asked = []

    def __call__(self, template):
        self.asked.append(template.text)
        if "broken" in template.text:
            raise OSError("disk full")
        if "bad" in template.text:
            raise TemplateError("nginx refuses it")


@pytest.mark.fault(30)
def test_a_bad_template_keeps_the_last_good_one_and_is_tried_once(tmp_path):
    file, check = tmp_path / "t", Check()
    file.write_text("good")
    choice = TemplateChoice(str(file), check)
    assert choice()[1] == ()
    file.write_text("bad")
    for _ in range(3):
        template, problems = choice()
        assert (template.text, problems) == ("good", ("nginx refuses it; the last good one is used",))
    assert check.asked == ["good", "bad"]
    file.unlink()
    assert choice()[0].text == "good"
    file.write_text("better")
    assert (choice()[0].text, choice()[1]) == ("better", ())


@pytest.mark.fault(30)
def test_a_bad_template_without_a_good_one_is_an_error(tmp_path):
    (tmp_path / "t").write_text("bad")
    choice = TemplateChoice(str(tmp_path / "t"), Check())
    for _ in range(2):
        with pytest.raises(TemplateError, match="nginx refuses it"):
            choice()


@pytest.mark.fault(45)
def test_a_template_whose_check_could_not_run_is_checked_again(tmp_path):
    (tmp_path / "t").write_text("broken")
    check = Check()
    choice = TemplateChoice(str(tmp_path / "t"), check)
    for _ in range(2):
        with pytest.raises(OSError, match="disk full"):
            choice()
    assert len(check.asked) == 2


def test_every_template_but_prefix_gets_a_redirect_for_the_path_without_its_slash():
    assert "return 308 template-check-1/" in routed(SAMPLES[0].route, check_location("mine", "x")).file.text
    assert "308" not in routed(SAMPLES[0].route, load_location("prefix")).file.text


FAILS_FOR_SOME = {
    "an upgrade in steps": "{% if Lighter and Percent >= '50' %}{% endif %}",
    "a serverless model": "{% if Kind == 'inferenceservice' and Host and Port > Host %}{% endif %}",
    "a trusted one": "{% if Trusted and Port > Name %}{% endif %}",
    "one that streams, in steps": "{% if StreamBody and not Trusted and Lighter > Percent %}{% endif %}",
}


@pytest.mark.fault(152)
@pytest.mark.parametrize("text", FAILS_FOR_SOME.values(), ids=FAILS_FOR_SOME)
def test_a_template_that_fails_for_some_routes_alone_fails_for_a_sample(text):
    with pytest.raises(TemplateError, match=r"the location template t fails for .* not supported"):
        files(check_location("t", GOOD + text), CONF)


@pytest.mark.parametrize("choice", ["prefix", "regex"])
def test_no_two_samples_share_a_name_a_namespace_or_an_address(choice):
    routes = [each.route for each in SAMPLES]
    for shared in (
        [route.ref.name for route in routes],
        [route.ref.namespace for route in routes],
        [target.host for route in routes for target in route.targets],
    ):
        assert len(set(shared)) == len(shared)
    assert (
        sum(name.endswith(".conf") and "template-check" in name for name in files(load_location(choice), CONF)) == 32
    )


ADDING = "location /{{ Name }} { add_header X-Mine a; }"


def test_an_add_header_without_what_shuts_pages_in_is_refused_with_what_to_write():
    with pytest.raises(TemplateError, match=r"has an add_header.*write `include answer-fields\.conf;` beside it"):
        check_location("t", ADDING)
    with pytest.raises(TemplateError, match="has an add_header"):
        check_location("t", f"# include answer-fields.conf;\n{ADDING}")
    check_location("t", ADDING.replace("{ add", "{ include answer-fields.conf; add"))
    check_location("t", "# add_header stands in a comment\nlocation /{{ Name }} { my_add_header_too; }")


USUAL = GOOD.replace("/x/", "/apis/rayservice/")
OWN_FIELDS = USUAL + "\nproxy_set_header X-A b;"
OWN_LIST = USUAL + "\nproxy_hide_header X-A;"
WITHOUT_GAPS = [
    USUAL,
    OWN_FIELDS + "include request-fields.conf;",
    OWN_FIELDS + "include credential-fields.conf;",
    OWN_LIST + "include origin-fields.conf;",
    USUAL + "\n# proxy_set_header X-A b;",
]


@pytest.mark.fault(87)
def test_a_template_whose_lists_let_cookies_pass_is_told_and_one_that_brings_the_proxys_back_is_not():
    (gap,) = check_location("t", OWN_FIELDS).gaps
    assert "include credential-fields.conf;` beside it: callers' cookies" in gap
    (gap,) = check_location("t", OWN_LIST).gaps
    assert "include origin-fields.conf;` beside it: cookies" in gap
    for text in (load_location("regex").text, load_location("prefix").text, *WITHOUT_GAPS):
        assert list(check_location("t", text).gaps) == [], text


OWN_PATHS = {
    "location ^~ /m/{{ .Name }}/ { }": ["/m/Name/"],
    "location = /a { } location ~* '^/{{ Kind }}/(.*)$' { }": ["/a", "'^/Kind/(.*)$'"],
    "{% if Trusted %} location /{{- Name -}} {% endif %}{ if ($below_0) { set $a b; } }": ["/Name"],
    "location /apis/{{ Kind }}/{{ Name }}/ { location ~ \\.css$ { } error_page 404 @none; } location @none { }": [],
    "location ~ ^/x/apis/[a-z]{1,9}/{{ Name }}/ { } # location /m/ { }": [],
}


@pytest.mark.fault(91)
@pytest.mark.parametrize(("text", "paths"), OWN_PATHS.items())
def test_a_template_with_paths_of_its_own_where_nothing_is_hidden_is_told(text, paths):
    gaps = list(check_location("t", text).gaps)
    assert [gap.split(" is a path of its own, where RAYPROXY_HIDDEN_PATHS hides nothing")[0] for gap in gaps] == paths
